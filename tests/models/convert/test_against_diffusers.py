"""The whole way for the demo model's architecture with random weights: exported to a single file, converted back.

Every tensor equals the one it came from, and the one that diffusers' own conversion of the same file gives; diffusers
loads the folder offline without a word about weights that are missing or too many.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.header import read_header
from invokeai_daemon.models.identify import identify
from invokeai_daemon.root import Root

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@contextmanager
def imports_may_warn() -> Iterator[None]:
    """What the libraries say of each other when they are first imported is not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_random_parts(folder: Path, in_channels: int) -> None:
    """`unet/`, `vae/` and `text_encoder/` as demo_model/train.py saves them."""
    with imports_may_warn():
        import torch
        from diffusers import UNet2DConditionModel

        from demo_model import train

        torch.manual_seed(in_channels)
        unet = train.new_unet()
        if in_channels != 4:
            unet = UNet2DConditionModel.from_config({**unet.config, "in_channels": in_channels})
        for name, part in (("unet", unet), ("vae", train.new_vae()), ("text_encoder", train.new_text_encoder())):
            part.save_pretrained(folder / name)


class Exported:
    """The parts, the files made from them, and the folders that these were converted to."""

    def __init__(self, folder: Path, in_channels: int) -> None:
        self.folder, self.file, self.pickle = folder, folder / "demo.safetensors", folder / "demo.ckpt"
        save_random_parts(folder, in_channels)
        from demo_model.export import write

        write(folder, self.file, self.pickle)
        self.root = Root(folder / "root")
        self.root.make()
        self.converted, self.from_pickle = self.convert(self.file), self.convert(self.pickle)

    def convert(self, path: Path) -> Path:
        header = read_header(path)
        return convert_model(header, identify(header), self.root, path.name)


@pytest.fixture(scope="module", params=[4, 9], ids=["normal", "inpaint"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("exported"), request.param)


def loaded(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name.removeprefix("text_model."): tensor for name, tensor in load_file(path).items()}


def assert_same_tensors(one: Path, other: Path) -> None:
    import torch

    for name, file in WEIGHTS.items():
        mine, theirs = loaded(one / name / file), loaded(other / name / file)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key].half()) for key in mine)


def test_what_was_exported_and_converted_is_what_it_was(exported: Exported) -> None:
    assert_same_tensors(exported.converted, exported.folder)


def test_a_pickle_checkpoint_gives_the_same_model(exported: Exported) -> None:
    assert exported.from_pickle != exported.converted
    assert_same_tensors(exported.from_pickle, exported.converted)


def test_diffusers_own_conversion_gives_the_same_tensors(exported: Exported, tmp_path: Path) -> None:
    with imports_may_warn():
        import torch
        from diffusers import StableDiffusionInpaintPipeline, StableDiffusionPipeline

    index = json.loads((exported.converted / "model_index.json").read_text())
    pipelines = {kind.__name__: kind for kind in (StableDiffusionPipeline, StableDiffusionInpaintPipeline)}
    pipeline = pipelines[index["_class_name"]].from_single_file(
        str(exported.file), config=str(exported.converted), torch_dtype=torch.float16, local_files_only=True
    )
    pipeline.save_pretrained(tmp_path)
    assert_same_tensors(exported.converted, tmp_path)


def test_diffusers_loads_the_folder_offline_without_a_complaint(
    exported: Exported, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with imports_may_warn():
        import diffusers
        import torch
        import transformers

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for library in (diffusers, transformers):
        library.utils.logging.enable_propagation()
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            exported.converted, safety_checker=None, requires_safety_checker=False
        )
    finally:
        for library in (diffusers, transformers):
            library.utils.logging.disable_propagation()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert type(pipeline.scheduler).__name__ == "PNDMScheduler"
    assert {part.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}
    image = pipeline.vae.decode(torch.zeros(1, 4, 2, 2)).sample
    assert tuple(image.shape) == (1, 3, 16, 16)


def test_the_widths_and_heads_of_the_demo_model_are_inferred(exported: Exported) -> None:
    ours = {name: json.loads((exported.converted / name / "config.json").read_text()) for name in WEIGHTS}
    original = {name: json.loads((exported.folder / name / "config.json").read_text()) for name in WEIGHTS}
    # The size of a picture is in no tensor; what a part computes in is said when it is loaded.
    free = {"sample_size", "dtype", "_diffusers_version"}
    for name, config in ours.items():
        assert {key: original[name][key] for key in config.keys() - free} == {
            key: value for key, value in config.items() if key not in free
        }


def test_the_export_names_a_tensor_that_has_no_place(exported: Exported, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from demo_model.export import single_file

    for name in WEIGHTS:
        shutil.copytree(exported.folder / name, tmp_path / name)
    path = tmp_path / "vae" / WEIGHTS["vae"]
    tensors = load_file(path)
    save_file({**tensors, "stranger": tensors["quant_conv.bias"].clone()}, path)
    with pytest.raises(ValueError, match="no place in a single file for stranger"):
        single_file(tmp_path)


def test_an_inpainting_model_is_known_by_its_input_channels(exported: Exported) -> None:
    config = json.loads((exported.converted / "unet/config.json").read_text())
    variant = identify(read_header(exported.file)).variant
    assert {4: "normal", 9: "inpaint"}[config["in_channels"]] == variant
    assert replace(identify(read_header(exported.pickle)), evidence=()).variant == variant
