"""SD-3 and FLUX.1: all-in-one files and transformers alone become folders; every tensor as diffusers makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.errors import IncompleteModel
from invokeai_daemon.models.convert import ConvertOptions, convert_model, is_convertible
from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.flux import Flux
from invokeai_daemon.models.convert.layout import Part
from invokeai_daemon.models.convert.mmdit import MMDiT
from invokeai_daemon.models.convert.projected import LargeProjectedClip, ProjectedClip
from invokeai_daemon.models.convert.t5 import T5
from invokeai_daemon.models.convert.vae import Vae
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.root import Root
from tests.models.convert import models
from tests.models.convert.models import Small
from tests.models.convert.test_against_diffusers import imports_may_warn
from tests.models.convert.test_families import weights

VOCABULARY = 49408
#: The transformers as they were published.
DEV_ITSELF = Flux(64, 64, 3072, 12288, 128, 19, 38, context=4096, pooled=768, guidance=True, time=256)
SD_3_ITSELF = MMDiT(
    16, 16, 2, 1536, 6144, 24, 4096, 2048, 192, normalises=False, head_width=64, dual_layers=(), time=256
)
TRUE: Mapping[str, Flux | MMDiT] = {
    "FLUX.1 dev": DEV_ITSELF,
    "FLUX.1 schnell": replace(DEV_ITSELF, guidance=False),
    "FLUX.1 Fill": replace(DEV_ITSELF, in_channels=384),
    "SD 3 medium": SD_3_ITSELF,
    "SD 3.5 medium": replace(SD_3_ITSELF, positions=384, normalises=True, dual_layers=tuple(range(13))),
    "SD 3.5 large": replace(SD_3_ITSELF, width=2432, inner=9728, layers=38, normalises=True),
}
SMALL_FLUX = Flux(64, 64, 64, 256, 32, double_blocks=2, single_blocks=2, context=32, pooled=64, guidance=True, time=256)
MMDIT = MMDiT(
    16,
    16,
    2,
    128,
    512,
    3,
    context=32,
    pooled=128,
    positions=32,
    normalises=True,
    head_width=64,
    dual_layers=(0, 1),
    time=256,
)
VAE = Vae(3, 3, 16, widths=(8, 16), depth=1, quant=False)
FLUX_CLIP = Clip(VOCABULARY, 77, width=64, layers=2, inner=32)
SMALL_CLIP = ProjectedClip(VOCABULARY, 77, width=64, layers=2, inner=32)
LARGE_CLIP = LargeProjectedClip(VOCABULARY, 77, width=64, layers=2, inner=32, projection=64)
ENCODER = T5(vocabulary=32, width=32, layers=2, inner=64, heads=2, head_width=8, buckets=32)

SD_3_PARTS: Mapping[str, Part] = {
    "transformer": MMDIT,
    "vae": VAE,
    "text_encoder": SMALL_CLIP,
    "text_encoder_2": LARGE_CLIP,
    "text_encoder_3": ENCODER,
}
FLUX_PARTS: Mapping[str, Part] = {
    "transformer": SMALL_FLUX,
    "vae": VAE,
    "text_encoder": FLUX_CLIP,
    "text_encoder_2": ENCODER,
}
SD_3 = Small(Identity("main", "sd-3", "checkpoint", "medium", "flow"), SD_3_PARTS)
DEV = Small(Identity("main", "flux", "checkpoint", "dev", "flow"), FLUX_PARTS)
SCHNELL = Small(
    Identity("main", "flux", "checkpoint", "schnell", "flow"),
    {**FLUX_PARTS, "transformer": replace(SMALL_FLUX, guidance=False)},
)
FILL = Small(
    Identity("main", "flux", "checkpoint", "dev_fill", "flow"),
    {**FLUX_PARTS, "transformer": replace(SMALL_FLUX, in_channels=384)},
)


SMALL = {"SD 3.5": SD_3, "FLUX.1 dev": DEV, "FLUX.1 schnell": SCHNELL, "FLUX.1 Fill": FILL}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of T5's kind with a few words."""
    with imports_may_warn():
        from transformers import T5TokenizerFast

    folder = tmp_path_factory.mktemp("words") / "tokenizer_2"
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("▁a", -2.0), ("▁cat", -2.0)]
    with imports_may_warn():
        T5TokenizerFast(vocab=words, extra_ids=0).save_pretrained(folder)
    return folder


def converted(small: Small, folder: Path, **options: Any) -> Path:
    root = Root(folder / "root")
    root.make()
    header = read_header(models.write(folder / "small.safetensors", small.tensors()))
    assert is_convertible(header, small.identity)
    return convert_model(header, small.identity, root, "small", options=ConvertOptions(**options))


def only(small: Small, *names: str) -> Small:
    return Small(small.identity, {name: part for name, part in small.parts.items() if name in names})


def thin(part: Part) -> dict[str, Any]:
    """A row of every tensor of the single file as one number: the rows are as many as in truth."""
    import torch

    rows = {one.source: one.shape[0] for rename in part.renames() for one in rename.rows}
    return {name: torch.randn(count, *([1] * (name == "pos_embed"))) for name, count in rows.items()}


@pytest.mark.parametrize("name", TRUE)
def test_the_rows_of_every_tensor_are_those_that_diffusers_takes(name: str) -> None:
    with imports_may_warn():
        import torch
        from diffusers.loaders import single_file_utils as diffusers

    part = TRUE[name]
    original = thin(part)
    kind = "flux" if isinstance(part, Flux) else "sd3"
    convert = getattr(diffusers, f"convert_{kind}_transformer_checkpoint_to_diffusers")
    # It asks for the width of one tensor.
    theirs = convert(dict(original))
    ours = {
        rename.target: torch.cat([original[one.source][one.first :][: one.count] for one in rename.rows])
        for rename in part.renames()
    }
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("name", TRUE)
def test_diffusers_makes_the_same_transformer_of_the_config(name: str) -> None:
    with imports_may_warn():
        import diffusers
        import torch

    part = TRUE[name]
    config = part.config()
    with torch.device("meta"):
        model = getattr(diffusers, config["_class_name"]).from_config(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == {rename.target: rename.shape for rename in part.renames()}
    assert type(part).from_config(model.config) == part
    sources = {one.source: one.shape for rename in part.renames() for one in rename.rows}
    assert type(part).infer(sources) == part


@pytest.mark.parametrize("name", SMALL)
def test_an_all_in_one_file_becomes_a_folder_that_diffusers_loads_and_needs_whole(
    name: str, tokenizer: Path, tmp_path: Path
) -> None:
    with imports_may_warn():
        import diffusers
        import torch

    small = SMALL[name]
    words = "tokenizer_3" if small.identity.base == "sd-3" else "tokenizer_2"
    folder = converted(small, tmp_path, parts={words: tokenizer})
    index = json.loads((folder / "model_index.json").read_text())
    pipeline = getattr(diffusers, index["_class_name"]).from_pretrained(folder, local_files_only=True)
    loaded = {f"{part}/{key.removeprefix('text_model.')}" for part in small.parts for key in keys(pipeline, part)}
    assert loaded == weights(folder).keys()
    assert getattr(pipeline, words)("a cat").input_ids
    if "Fill" in index["_class_name"]:
        return
    with imports_may_warn():
        latents = pipeline(
            "a cat", width=64, height=64, num_inference_steps=1, output_type="latent", max_sequence_length=16
        ).images
    assert bool(torch.isfinite(latents).all())


def keys(pipeline: Any, part: str) -> list[str]:
    """T5 shares the vectors of its words with itself, under a second name."""
    return [key for key in getattr(pipeline, part).state_dict() if key != "encoder.embed_tokens.weight"]


def test_the_tensors_of_the_folder_are_the_bytes_of_the_file(tokenizer: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = converted(DEV, tmp_path, parts={"tokenizer_2": tokenizer})
    original, made = load_file(tmp_path / "small.safetensors"), weights(folder)
    for rename in SMALL_FLUX.renames():
        source = [original[f"model.diffusion_model.{one.source}"] for one in rename.rows]
        rows = [tensor[one.first :][: one.count] for one, tensor in zip(rename.rows, source, strict=True)]
        assert torch.equal(made[f"transformer/{rename.target}"], torch.cat(rows)), rename.target


def test_a_transformer_alone_takes_its_other_parts_from_files_and_folders(tokenizer: Path, tmp_path: Path) -> None:
    import torch

    whole = converted(DEV, tmp_path / "whole", parts={"tokenizer_2": tokenizer})
    alone = {
        "text_encoder": models.write(tmp_path / "clip_l.safetensors", bare(FLUX_CLIP, "text_model."), seed=1),
        "text_encoder_2": models.write(tmp_path / "t5xxl.safetensors", bare(ENCODER), seed=2),
        "vae": whole / "vae",
        "tokenizer_2": tokenizer,
    }
    folder = converted(only(DEV, "transformer"), tmp_path / "alone", parts=alone)
    made = weights(folder)
    assert made.keys() == weights(whole).keys()
    from safetensors.torch import load_file

    t5 = load_file(alone["text_encoder_2"])
    assert all(torch.equal(made[f"text_encoder_2/{name}"], tensor) for name, tensor in t5.items())


def bare(part: Part, prefix: str = "") -> dict[str, tuple[str, tuple[int, ...]]]:
    return {prefix + one.source: ("F16", one.shape) for rename in part.renames() for one in rename.rows}


def test_what_a_transformer_alone_lacks_is_named_part_by_part(tmp_path: Path) -> None:
    with pytest.raises(IncompleteModel) as caught:
        converted(only(DEV, "transformer"), tmp_path)
    assert set(caught.value.parts) == {"vae", "text_encoder", "text_encoder_2", "tokenizer_2"}


def test_sd_3_renders_without_t5_and_says_so_in_its_index(tmp_path: Path) -> None:
    folder = converted(only(SD_3, "transformer", "vae", "text_encoder", "text_encoder_2"), tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    assert (index["text_encoder_3"], index["tokenizer_3"]) == ([None, None], [None, None])
    with imports_may_warn():
        import torch
        from diffusers import StableDiffusion3Pipeline

    without = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, local_files_only=True, **without)
    with imports_may_warn():
        latents = pipeline("a cat", width=64, height=64, num_inference_steps=1, output_type="latent").images
    assert bool(torch.isfinite(latents).all())


@pytest.mark.parametrize(("base", "scaling", "shift"), [("flux", 0.3611, 0.1159), ("sd-3", 1.5305, 0.0609)])
def test_a_vae_of_sixteen_channels_alone_becomes_a_folder_with_its_own_scale(
    base: str, scaling: float, shift: float, tmp_path: Path
) -> None:
    root = Root(tmp_path / "root")
    root.make()
    header = read_header(models.write(tmp_path / "ae.safetensors", bare(VAE)))
    folder = convert_model(header, Identity("vae", base, "checkpoint"), root, "ae")
    config = json.loads((folder / "config.json").read_text())
    assert (config["scaling_factor"], config["shift_factor"], config["use_quant_conv"]) == (scaling, shift, False)


def test_parts_of_another_converted_model_are_not_written_twice(tokenizer: Path, tmp_path: Path) -> None:
    first = converted(DEV, tmp_path, parts={"tokenizer_2": tokenizer})
    parts = {name: first / name for name in ("vae", "text_encoder", "text_encoder_2", "tokenizer_2")}
    second = converted(only(SCHNELL, "transformer"), tmp_path / "second", parts=parts)
    shared = "text_encoder_2/model.safetensors"
    assert (first / shared).samefile(second / shared)
    assert not (first / "transformer/config.json").samefile(second / "transformer/config.json")
    assert not (tokenizer / "tokenizer.json").samefile(first / "tokenizer_2/tokenizer.json")
