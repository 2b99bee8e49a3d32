"""T2I-Adapters: diffusers' pictures, several for one image, ranges of steps, and neighbours without effect."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import MultiAdapter, StableDiffusionAdapterPipeline, T2IAdapter
from PIL import Image as Pillow
from safetensors.torch import load_file

from invokeai_daemon.engine.controls.t2i_adapters import load_adapter
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema import T2IAdapter as Asked
from tests.engine.build import image
from tests.engine.build_controls import build_adapter, picture
from tests.engine.conftest import Pixels, difference, render, render_plainly
from tests.engine.studio import Studio

# diffusers' own pipeline does something in a way that diffusers advises against.
pytestmark = pytest.mark.filterwarnings("ignore:The decode_latents method is deprecated:FutureWarning")

FULL, LIGHT, GREY, OTHER = "adapter-1", "adapter-2", "adapter-3", "adapter-4"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline, plain: Any) -> Studio:
    folder = tmp_path_factory.mktemp("adapters")
    studio = Studio(folder, pipeline, plain)
    studio.add(
        build_adapter(folder / FULL, 1),
        build_adapter(folder / LIGHT, 2, adapter_type="light_adapter"),
        build_adapter(folder / GREY, 3, in_channels=1),
        build_adapter(folder / OTHER, 4),
    )
    studio.put("one.png", picture(1))
    studio.put("other.png", picture(2))
    return studio


def asked(name: str = FULL, file: str = "one.png", **words: Any) -> Asked:
    return Asked(name=name, image=file, **{"processor": "none", **words})


def adapted(*adapters: Asked, **values: Any) -> Image:
    return image(t2i_adapters=adapters, **values)


def adapter(studio: Studio, name: str) -> T2IAdapter:
    return T2IAdapter.from_pretrained(studio.folder / name)


def plainly(studio: Studio, wanted: Image, adapter: Any, picture: Any, scale: Any) -> Pixels:
    plain = studio.as_plain(StableDiffusionAdapterPipeline, adapter=adapter)
    return render_plainly(plain, wanted, image=picture, adapter_conditioning_scale=scale)


@pytest.mark.parametrize("name", [FULL, LIGHT, GREY])
def test_one_gives_the_picture_of_diffusers(studio: Studio, name: str) -> None:
    wanted = adapted(asked(name, weight=0.7), negative_prompt="blurred")
    [ours] = studio.render([wanted])
    shown: Pillow.Image = picture(1).convert("L") if name == GREY else picture(1)
    assert difference(ours, plainly(studio, wanted, adapter(studio, name), shown, 0.7)) <= 3
    [without] = render(studio.pipeline, [image(negative_prompt="blurred")])
    assert difference(ours, without) > 3


def test_several_give_the_picture_of_diffusers(studio: Studio) -> None:
    [ours] = studio.render([adapted(asked(weight=0.5), asked(OTHER, "other.png", weight=0.8))])
    both = MultiAdapter([adapter(studio, FULL), adapter(studio, OTHER)])
    assert difference(ours, plainly(studio, image(), both, [picture(1), picture(2)], [0.5, 0.8])) <= 3


def test_weight_zero_gives_the_bits_of_no_adapter(studio: Studio) -> None:
    [ours] = studio.render([adapted(asked(weight=0.0))])
    [without] = render(studio.pipeline, [image()])
    assert np.array_equal(ours, without)


def test_neighbours_with_other_pictures_and_ranges_change_no_bit(studio: Studio) -> None:
    wanted = [
        adapted(asked()),
        adapted(asked(file="other.png", weight=-1.0, end=0.5), number=2),
        adapted(asked(weight=0.0), number=3, cfg_scale=1.0),
    ]
    together = studio.render(wanted)
    for one, shared in zip(wanted, together, strict=True):
        [alone] = studio.render([one])
        assert np.array_equal(alone, shared), one.number
    [whole] = studio.render([adapted(asked(file="other.png", weight=-1.0), number=2)])
    assert difference(together[1], whole) > 0


def test_sizes_that_an_adapter_cannot_divide_are_brought_to_the_next(studio: Studio, tmp_path: Path) -> None:
    # SDXL's adapters divide by 16: what 8 pixels more would take is resized to it.
    reference = build_adapter(
        tmp_path / "xl", 5, adapter_type="full_adapter_xl", channels=[32, 64, 64, 64], downscale_factor=16
    )
    studio.add(reference)
    [lane] = studio.lanes([adapted(asked(reference.name), width=72, height=64)])
    assert lane.attached.features[0].weighted[0].shape[2:] == (4, 5)


def test_a_single_file_under_the_names_of_the_original_code_says_the_same(tmp_path: Path) -> None:
    _compare(tmp_path / "full", _original_full, adapter_type="full_adapter", channels=[32, 64, 64, 64])
    _compare(tmp_path / "light", _original_light, adapter_type="light_adapter", channels=[32, 64])
    _compare(tmp_path / "same", lambda name: name, adapter_type="full_adapter", channels=[32, 64, 64, 64])


def _compare(folder: Path, original: Callable[[str], str], **words: Any) -> None:
    build_adapter(folder, 6, num_res_blocks=2, **words)
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    torch.save({original(name): tensor for name, tensor in tensors.items()}, folder / "original.pth")
    pixels, cpu = torch.rand(1, 3, 64, 64), torch.device("cpu")
    one, other = (load_adapter(path, "sd-1", torch.float32, cpu) for path in (folder, folder / "original.pth"))
    assert other.model.config.adapter_type == one.model.config.adapter_type
    for here, there in zip(one.model(pixels), other.model(pixels), strict=True):
        assert torch.equal(here, there)


def _original_full(name: str) -> str:
    """Residual blocks are counted through, two for each block; the first has what leads to its width."""
    body = re.fullmatch(r"adapter\.body\.(\d+)\.(?:resnets\.(\d)\.)?(.+)", name)
    return f"body.{2 * int(body[1]) + int(body[2] or 0)}.{body[3]}" if body else name.removeprefix("adapter.")


def _original_light(name: str) -> str:
    return name.removeprefix("adapter.").replace(".resnets.", ".body.")
