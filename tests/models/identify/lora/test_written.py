"""Files that the trainers' own libraries write: LyCORIS, PEFT and diffusers, over a few layers in their true sizes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.models.header import Header, TensorInfo
from invokeai_daemon.models.identify import judge
from invokeai_daemon.models.identify.lora import facts_of

#: Enough of SDXL to tell it, under diffusers' names.
SDXL = {
    "mid_block.attentions.0.transformer_blocks.3.attn1.to_q": (1280, 1280),
    "mid_block.attentions.0.transformer_blocks.3.attn2.to_k": (1280, 2048),
    "down_blocks.1.resnets.0.conv1": (640, 320, 3, 3),
}
FLUX = {
    "time_text_embed.text_embedder.linear_1": (3072, 768),
    "transformer_blocks.0.norm1.linear": (18432, 3072),
    "transformer_blocks.0.attn.to_q": (3072, 3072),
    "single_transformer_blocks.30.attn.to_k": (3072, 3072),
}


def skeleton(layers: dict[str, tuple[int, ...]]) -> Any:
    """A model that has nothing but these layers, in the tree that their names say, without weights."""
    import torch
    from torch import nn

    class Node(nn.Module):
        """A branch; LyCORIS asks for these methods of a model."""

    root = Node()
    with torch.device("meta"):
        for name, shape in layers.items():
            node, words = root, name.split(".")
            for word in words[:-1]:
                if not hasattr(node, word):
                    node.add_module(word, Node())
                node = getattr(node, word)
            rows, columns, *kernel = shape
            made = nn.Conv2d(columns, rows, kernel[0], padding=1) if kernel else nn.Linear(columns, rows)
            node.add_module(words[-1], made)
    return root


def header_of(state: dict[str, Any]) -> Header:
    tensors = {name: TensorInfo("F32", tuple(tensor.shape), 0, 0) for name, tensor in state.items()}
    return Header(Path("model.safetensors"), "safetensors", 0, tensors)


@contextmanager
def quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


ALGORITHMS = [
    ("locon", {}, "LoRA"),
    ("locon", {"use_tucker": True}, "LoCon"),
    ("loha", {}, "LoHa"),
    ("loha", {"use_tucker": True}, "LoHa"),
    ("lokr", {"factor": 8}, "LoKr"),
    ("lokr", {"factor": 8, "decompose_both": True}, "LoKr"),
    ("lokr", {"factor": 8, "use_tucker": True}, "LoKr"),
    ("lokr", {"factor": -1, "full_matrix": True}, "LoKr"),
    ("full", {}, "Full"),
    ("ia3", {}, "IA3"),
    ("diag-oft", {}, "OFT"),
    ("boft", {"linear_dim": 64}, "BOFT"),
    ("locon", {"dora_wd": True}, "DoRA"),
    ("loha", {"dora_wd": True}, "LoHa (DoRA)"),
    ("glora", {}, "GLoRA"),
]


@pytest.mark.parametrize(("algorithm", "options", "kind"), ALGORITHMS)
def test_lycoris_files_are_told_by_kind_and_base(algorithm: str, options: dict[str, Any], kind: str) -> None:
    import torch
    from lycoris import LycorisNetwork, create_lycoris

    with quietly():
        LycorisNetwork.apply_preset({"target_module": ["Linear", "Conv2d"]})
        model = skeleton(SDXL).to_empty(device="cpu")
        with torch.no_grad():
            settings = {"linear_dim": 4, "linear_alpha": 1, "algo": algorithm} | options
            network = create_lycoris(model, 1.0, **settings)
            network.apply_to()
    header = header_of(network.state_dict())
    facts, verdict = facts_of(header), judge(header)
    assert facts is not None and kind in facts.kinds, facts
    assert (verdict.identity.type, verdict.identity.base, verdict.identity.dialect) == ("lora", "sdxl", "lycoris")
    assert verdict.state == ("unusable" if kind in ("OFT", "BOFT", "GLoRA") else "ok")


def peft_state(layers: dict[str, tuple[int, ...]], config: Any) -> dict[str, Any]:
    from peft import get_peft_model, get_peft_model_state_dict

    with quietly():
        return get_peft_model_state_dict(get_peft_model(skeleton(layers), config, low_cpu_mem_usage=True))


CONFIGS: Sequence[tuple[str, dict[str, Any], str]] = [
    ("LoraConfig", {"r": 4}, "LoRA"),
    ("LoraConfig", {"r": 4, "use_rslora": True}, "LoRA"),
    ("LoraConfig", {"r": 4, "use_dora": True}, "DoRA"),
    ("LoHaConfig", {"r": 4}, "LoHa"),
    ("LoKrConfig", {"r": 4}, "LoKr"),
    ("LoKrConfig", {"r": 4, "decompose_both": True}, "LoKr"),
    ("OFTConfig", {"r": 0, "oft_block_size": 32}, "OFT"),
]


@pytest.mark.parametrize(("config", "options", "kind"), CONFIGS)
@pytest.mark.parametrize(("base", "layers"), [("sdxl", SDXL), ("flux", FLUX)])
def test_peft_files_are_told_by_kind_and_base(
    base: str, layers: dict[str, tuple[int, ...]], config: str, options: dict[str, Any], kind: str
) -> None:
    import peft

    linear = {name: shape for name, shape in layers.items() if len(shape) == 2}
    header = header_of(peft_state(linear, getattr(peft, config)(target_modules=list(linear), **options)))
    facts, identity = facts_of(header), judge(header).identity
    assert facts is not None and set(facts.kinds) == {kind}, list(header.tensors)
    assert (identity.type, identity.base, identity.dialect) == ("lora", base, "peft")


def test_what_diffusers_saves_is_told(tmp_path: Path) -> None:
    import torch
    from diffusers import FluxPipeline, StableDiffusionXLPipeline
    from peft import LoraConfig

    for base, pipeline, layers in (("sdxl", StableDiffusionXLPipeline, SDXL), ("flux", FluxPipeline, FLUX)):
        state = peft_state(layers, LoraConfig(r=4, target_modules=list(layers)))
        state = {name.removeprefix("base_model.model."): torch.zeros(tensor.shape) for name, tensor in state.items()}
        part = "unet_lora_layers" if base == "sdxl" else "transformer_lora_layers"
        pipeline.save_lora_weights(tmp_path / base, **{part: state})
        identity = judge(tmp_path / base / "pytorch_lora_weights.safetensors").identity
        assert (identity.type, identity.base, identity.dialect) == ("lora", base, "peft")
