"""How trainers write what they trained: names and shapes of LoRA files, from the modules of the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from invokeai_daemon.models.header import Header, TensorInfo

Shapes = dict[str, tuple[int, ...]]
Module = tuple[str, tuple[int, ...]]


def header_of(
    shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None, dtype: str = "F16"
) -> Header:
    tensors = {name: TensorInfo(dtype, tuple(shape), 0, 0) for name, shape in shapes.items()}
    return Header(Path("model.safetensors"), "safetensors", 0, tensors, metadata or {})


# Kinds of change: leaf -> shape, for a module's weight


def lora(shape: tuple[int, ...], rank: int = 16, down: str = "lora_down.weight", up: str = "lora_up.weight") -> Shapes:
    kernel = shape[2:]
    return {down: (rank, shape[1], *kernel), up: (shape[0], rank, *[1] * len(kernel)), "alpha": ()}


def peft(shape: tuple[int, ...], rank: int = 16) -> Shapes:
    """PEFT has no alpha tensors."""
    leaves = lora(shape, rank, "lora_A.weight", "lora_B.weight")
    return {leaf: size for leaf, size in leaves.items() if leaf != "alpha"}


def named(shape: tuple[int, ...]) -> Shapes:
    return lora(shape, 8, "lora_A.default.weight", "lora_B.default.weight")


def linear_layer(shape: tuple[int, ...]) -> Shapes:
    """How diffusers wrapped the layers of text encoders before PEFT."""
    leaves = lora(shape, 4, "lora_linear_layer.down.weight", "lora_linear_layer.up.weight")
    return {leaf: size for leaf, size in leaves.items() if leaf != "alpha"}


def bare_parameters(shape: tuple[int, ...]) -> Shapes:
    return {"lora_A": (4, shape[1]), "lora_B": (shape[0], 4)}


def tucker(shape: tuple[int, ...], rank: int = 8) -> Shapes:
    """Only a convolution has a kernel to decompose; for a linear layer it is a LoRA."""
    kernel = shape[2:]
    if not kernel:
        return lora(shape, rank)
    return {
        "lora_down.weight": (rank, shape[1], 1, 1),
        "lora_mid.weight": (rank, rank, *kernel),
        "lora_up.weight": (shape[0], rank, 1, 1),
        "alpha": (),
    }


def dora(shape: tuple[int, ...]) -> Shapes:
    return {**lora(shape), "dora_scale": (1, shape[1], *[1] * len(shape[2:]))}


def peft_dora(shape: tuple[int, ...]) -> Shapes:
    return {**peft(shape), "lora_magnitude_vector": (shape[0],)}


def loha(shape: tuple[int, ...], rank: int = 4) -> Shapes:
    """The kernel of a convolution is laid flat."""
    columns = shape[1]
    for size in shape[2:]:
        columns *= size
    factors = {"a": (shape[0], rank), "b": (rank, columns)}
    return {**{f"hada_w{n}_{leaf}": size for n in (1, 2) for leaf, size in factors.items()}, "alpha": ()}


def loha_tucker(shape: tuple[int, ...], rank: int = 4) -> Shapes:
    kernel = shape[2:]
    if not kernel:
        return loha(shape, rank)
    factors = {"a": (rank, shape[0]), "b": (rank, shape[1])}
    leaves = {f"hada_w{n}_{leaf}": size for n in (1, 2) for leaf, size in factors.items()}
    return {**leaves, "hada_t1": (rank, rank, *kernel), "hada_t2": (rank, rank, *kernel), "alpha": ()}


def split(size: int, factor: int = 8) -> tuple[int, int]:
    """Two factors of a size, the first no larger than asked for."""
    first = next(number for number in range(factor, 0, -1) if size % number == 0)
    return first, size // first


def lokr(first: str, second: str) -> Callable[[tuple[int, ...]], Shapes]:
    """LoKr with either factor whole ("w") or a product ("ab"), the second also a Tucker decomposition ("t")."""

    def leaves(shape: tuple[int, ...]) -> Shapes:
        (rows, high), (columns, wide), kernel = split(shape[0]), split(shape[1]), shape[2:]
        flat = wide
        for size in kernel:
            flat *= size
        made: Shapes = {"alpha": ()}
        made |= {"lokr_w1": (rows, columns)} if first == "w" else {"lokr_w1_a": (rows, 2), "lokr_w1_b": (2, columns)}
        if second == "w":
            made |= {"lokr_w2": (high, wide, *kernel)}
        elif second == "ab" or not kernel:
            made |= {"lokr_w2_a": (high, 2), "lokr_w2_b": (2, flat)}
        else:
            made |= {"lokr_t2": (2, 2, *kernel), "lokr_w2_a": (2, high), "lokr_w2_b": (2, wide)}
        return made

    return leaves


def ia3(shape: tuple[int, ...]) -> Shapes:
    return {"weight": (shape[1],), "on_input": ()}


def ia3_of_outputs(shape: tuple[int, ...]) -> Shapes:
    return {"weight": (shape[0], *[1] * (len(shape) - 1)), "on_input": ()}


def full(shape: tuple[int, ...]) -> Shapes:
    return {"diff": shape, "diff_b": (shape[0],)}


def norm(shape: tuple[int, ...]) -> Shapes:
    return {"w_norm": shape, "b_norm": shape}


def oft(shape: tuple[int, ...]) -> Shapes:
    blocks, size = split(shape[0], 4)
    return {"oft_blocks": (blocks, size, size), "alpha": ()}


def boft(shape: tuple[int, ...]) -> Shapes:
    blocks, size = split(shape[0], 4)
    return {"oft_blocks": (2, blocks, size, size), "alpha": ()}


def glora(shape: tuple[int, ...]) -> Shapes:
    return {
        "a1.weight": (4, shape[1]),
        "a2.weight": (shape[1], 4),
        "b1.weight": (4, shape[1]),
        "b2.weight": (shape[0], 4),
        "alpha": (),
    }


# Names


def written(
    modules: Iterable[Module],
    leaves: Callable[[tuple[int, ...]], Shapes],
    prefix: str,
    rename: Callable[[str], str] = str,
) -> Shapes:
    """A file whose names keep their dots: `unet.down_blocks.0…`."""
    return {f"{prefix}{rename(name)}.{leaf}": size for name, shape in modules for leaf, size in leaves(shape).items()}


def kohya(
    modules: Iterable[Module],
    leaves: Callable[[tuple[int, ...]], Shapes],
    prefix: str,
    rename: Callable[[str], str] = str,
) -> Shapes:
    """A file in which dots became underscores: `lora_unet_down_blocks_0_…`."""
    return {
        f"{prefix}{rename(name).replace('.', '_')}.{leaf}": size
        for name, shape in modules
        for leaf, size in leaves(shape).items()
    }


def old_diffusers(modules: Iterable[Module], prefix: str = "unet.") -> Shapes:
    """Attention processors with four layers each: `attn1.processor.to_q_lora.down.weight`."""
    made: Shapes = {}
    for name, shape in modules:
        head, _, last = name.removesuffix(".0").rpartition(".")
        stem = f"{prefix}{head}.processor.{last}_lora"
        made |= {f"{stem}.down.weight": (4, shape[1]), f"{stem}.up.weight": (shape[0], 4)}
    return made


_SGM_LAYERS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_SGM_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def sgm(attends: tuple[bool, ...]) -> Callable[[str], str]:
    """The original name of a UNet's module; `attends` says which levels have attention on the way up."""

    def rename(name: str) -> str:
        if name in _SGM_TOP:
            return _SGM_TOP[name]
        found = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name)
        if found:
            place = 1 if found[1] == "attentions" else 2 * int(found[2])
            return f"middle_block.{place}.{_layer(found[1], found[3])}"
        found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
        assert found, name
        way, level, part, place, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if part == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.op"
        if part == "upsamplers":
            return f"output_blocks.{3 * level + 2}.{2 if attends[level] else 1}.conv"
        block = f"input_blocks.{3 * level + 1 + place}" if way == "down" else f"output_blocks.{3 * level + place}"
        return f"{block}.{1 if part == 'attentions' else 0}.{_layer(part, rest)}"

    return rename


def _layer(part: str, rest: str) -> str:
    return _SGM_LAYERS[rest] if part == "resnets" else rest


def only(modules: Iterable[Module], *words: str) -> list[Module]:
    """The modules whose names have one of the words."""
    return [(name, shape) for name, shape in modules if any(word in name for word in words)]


def matrices(modules: Iterable[Module]) -> list[Module]:
    """What a LoRA can change: no norms, and no convolution of groups."""
    return [(name, shape) for name, shape in modules if len(shape) > 1 and "depthwise" not in name]


def linear(modules: Iterable[Module]) -> list[Module]:
    return [(name, shape) for name, shape in modules if len(shape) == 2]


def convolutions(modules: Iterable[Module]) -> list[Module]:
    return [(name, shape) for name, shape in modules if len(shape) == 4]


def norms(modules: Iterable[Module]) -> list[Module]:
    return [(name, shape) for name, shape in modules if len(shape) == 1]
