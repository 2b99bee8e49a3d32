"""For every family: each tensor equals what diffusers' own conversion of the same file gives; diffusers loads it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.models.convert import convert_model, is_convertible, read_marker
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.models.convert import models
from tests.models.convert.models import ALONE, MODELS, Small
from tests.models.convert.test_against_diffusers import imports_may_warn


def converted(small: Small, folder: Path) -> tuple[Path, Path]:
    """The single file, and the folder made of it."""
    root = Root(folder / "root")
    root.make()
    source = models.write(folder / "small.safetensors", small.tensors())
    header = read_header(source)
    assert is_convertible(header, small.identity)
    return source, convert_model(header, small.identity, root, "small")


def weights(folder: Path) -> dict[str, Any]:
    """Every tensor of every part, by part and name."""
    from safetensors.torch import load_file

    return {
        f"{path.parent.relative_to(folder).as_posix()}/{name.removeprefix('text_model.')}": tensor
        for path in folder.rglob("*.safetensors")
        for name, tensor in load_file(path).items()
    }


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    import torch

    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert {tensor.dtype for tensor in ours.values()} == {torch.float16}


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_is_what_diffusers_makes_of_the_same_file(name: str, tmp_path: Path) -> None:
    with imports_may_warn():
        import diffusers
        import torch

    source, folder = converted(MODELS[name], tmp_path)
    kind = json.loads((folder / "model_index.json").read_text())["_class_name"]
    if "Depth" in kind:  # it cannot read single files, which are as those of the others
        kind = "StableDiffusionPipeline"
    pipeline = getattr(diffusers, kind).from_single_file(
        str(source), config=str(folder), torch_dtype=torch.float16, local_files_only=True
    )
    pipeline.save_pretrained(tmp_path / "theirs")
    assert_equal(weights(folder), weights(tmp_path / "theirs"))


@pytest.mark.parametrize("name", ["sd-1", "sd-2 768", "sd-2 depth", "sdxl", "sdxl-refiner"])
def test_diffusers_loads_the_folder_without_network_and_needs_every_tensor(name: str, tmp_path: Path) -> None:
    with imports_may_warn():
        import diffusers

    _, folder = converted(MODELS[name], tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    without = {"depth_estimator": None, "feature_extractor": None} if "depth" in name else {}
    pipeline = getattr(diffusers, index["_class_name"]).from_pretrained(folder, local_files_only=True, **without)
    loaded = {
        f"{part}/{key.removeprefix('text_model.')}"
        for part in MODELS[name].parts
        for key in getattr(pipeline, part).state_dict()
    }
    assert loaded == weights(folder).keys()


def sdxl_controlnet(source: Path, config: dict[str, Any]) -> Any:
    """diffusers converts all of an original SDXL ControlNet but the embedding of sizes, as it does a UNet's."""
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING, convert_controlnet_checkpoint
    from safetensors.torch import load_file

    original = load_file(source)
    tensors = convert_controlnet_checkpoint(dict(original), config)
    for name, old in DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"].items():
        tensors[name] = original[old]
    model = ControlNetModel.from_config(config).half()
    model.load_state_dict(tensors)
    return model


@pytest.mark.parametrize("name", ALONE)
def test_a_part_that_comes_alone_is_what_diffusers_makes_of_it(name: str, tmp_path: Path) -> None:
    with imports_may_warn():
        import diffusers
        import torch

    source, folder = converted(ALONE[name], tmp_path)
    assert folder.parent == tmp_path / f"root/models/{ALONE[name].identity.base}/{ALONE[name].identity.type}"
    config = json.loads((folder / "config.json").read_text())
    kind = getattr(diffusers, config["_class_name"])
    if "diffusers" in name:  # a folder's weights that lost their config
        shutil.move(source, shutil.copytree(folder, tmp_path / "whole") / "diffusion_pytorch_model.safetensors")
        model = kind.from_pretrained(tmp_path / "whole", torch_dtype=torch.float16, local_files_only=True)
    elif "label_emb.0.0.weight" in read_header(source).tensors:
        model = sdxl_controlnet(source, config)
    else:
        model = kind.from_single_file(str(source), config=str(folder), torch_dtype=torch.float16, local_files_only=True)
    model.save_pretrained(tmp_path / "theirs")
    assert_equal(weights(folder), weights(tmp_path / "theirs"))
    assert kind.from_pretrained(folder, local_files_only=True).state_dict().keys() == model.state_dict().keys()
    marker = read_marker(folder)
    assert marker is not None
    assert marker["notes"] == []


def test_a_converted_sdxl_model_renders_a_step(tmp_path: Path) -> None:
    with imports_may_warn():
        import torch
        from diffusers import StableDiffusionXLPipeline

    _, folder = converted(models.SDXL, tmp_path)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
    assert (pipeline.tokenizer.pad_token_id, pipeline.tokenizer_2.pad_token_id) == (49407, 0)
    with imports_may_warn():  # diffusers' scheduler warns of numpy
        latents = pipeline("a cat", width=64, height=64, num_inference_steps=1, output_type="latent").images
    assert bool(torch.isfinite(latents).all())
