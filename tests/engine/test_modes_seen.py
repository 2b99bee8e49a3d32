"""Models that see a picture beside the latents: edits by instruction, and pictures in the depth of another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import (
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
)
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from invokeai_daemon.engine.denoise import pick
from invokeai_daemon.engine.guidance import guided
from invokeai_daemon.engine.loading.pipeline import load_pipeline
from invokeai_daemon.engine.modes.depth import depth_map
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, ModelRef
from invokeai_daemon.job.schema.pictures import Init
from tests.engine.build import build_sd_2, image, new_unet
from tests.engine.conftest import difference, load_plainly, render_plainly
from tests.engine.drive import desk_of, drawn_picture, first_lane, make

CPU = torch.device("cpu")
INIT, DEPTH = "init.png", "depth.png"


class Pair:
    """A model that sees a picture, as it is loaded here and as diffusers loads it."""

    def __init__(self, folder: Path, model: ModelRef, ordinary: Any, kind: Any, seen: int, **parts: Any) -> None:
        torch.manual_seed(5)
        unet = new_unet(**{**ordinary.unet.config, "in_channels": 4 + seen})
        names = kind._get_signature_keys(kind)[0]
        components = {name: part for name, part in ordinary.components.items() if name in names}
        options = {"requires_safety_checker": False} if "safety_checker" in names else {}
        kind(**{**components, "unet": unet, **options, **parts}).save_pretrained(folder / "seeing")
        self.model = replace(model, path=str(folder / "seeing"), hash="")
        self.plain: Any = load_plainly(self.model)

    def desk(self, folder: Path, variant: str) -> Desk:
        folder.mkdir(exist_ok=True)
        pipeline = load_pipeline(replace(self.model, variant=variant), CPU, "float32", cores=2)
        depth = PIL.Image.fromarray((np.mgrid[0:48, 0:32][0] * 1200).astype(np.uint16))
        return desk_of(pipeline, folder, {INIT: drawn_picture(), DEPTH: depth})


# -- edits by instruction ------------------------------------------------------------------------------------------


EDITED: dict[str, Any] = {"steps": 3, "prompt": "a green circle", "negative_prompt": "blurred"}


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory, model: ModelRef, plain: Any) -> Pair:
    return Pair(tmp_path_factory.mktemp("models"), model, plain, StableDiffusionInstructPix2PixPipeline, 4)


@pytest.fixture(scope="module")
def desk(edit: Pair, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return edit.desk(tmp_path_factory.mktemp("job"), "edit")


def edited(scale: float = 1.5, **values: Any) -> Image:
    return image(**{**EDITED, "init": Init(image=INIT, image_guidance_scale=scale), **values})


@pytest.mark.parametrize("values", [{}, {"scheduler": "euler_a", "scale": 4.0}, {"cfg_scale": 1.0}], ids=str)
def test_an_edit_is_that_of_diffusers(edit: Pair, desk: Desk, values: dict[str, Any]) -> None:
    wanted = edited(**values)
    assert wanted.init is not None
    words = {"image": drawn_picture(), "image_guidance_scale": wanted.init.image_guidance_scale}
    expected = _edited_plainly(edit.plain, wanted, **words)
    assert expected.std() > 2
    assert difference(make(desk, wanted)[0].pixels, expected) <= 2


def _edited_plainly(plain: Any, wanted: Image, **words: Any) -> Any:
    # Its pipeline takes no size.
    call = type(plain).__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(plain), "__call__", lambda self, prompt, width, height, **rest: call(self, prompt, **rest))
        return render_plainly(plain, wanted, **words)


def test_an_sdxl_edit_is_that_of_diffusers(xl_model: ModelRef, plain_xl: Any, tmp_path: Path) -> None:
    pair = Pair(tmp_path, xl_model, plain_xl, StableDiffusionXLInstructPix2PixPipeline, 4)
    desk = pair.desk(tmp_path / "job", "edit")
    wanted = edited(negative_prompt="", cfg_rescale_multiplier=0.5)
    words = {"image": drawn_picture(), "image_guidance_scale": 1.5, "guidance_rescale": 0.5, "negative_prompt": None}
    assert difference(make(desk, wanted)[0].pixels, render_plainly(pair.plain, wanted, **words)) <= 2


def test_three_rows_are_guided_by_both_scales() -> None:
    neither, picture, both = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)).chunk(3)
    expected = neither + 7 * (both - picture) + 1.5 * (picture - neither)
    assert torch.allclose(guided(torch.cat([neither, picture, both]), 7.0, 0.0, 1.5), expected, atol=1e-5)


def test_an_edit_follows_its_picture_and_not_its_strength(desk: Desk) -> None:
    usual = make(desk, edited())[0].pixels
    close = make(desk, edited(scale=3.0))[0].pixels
    assert difference(close, usual) > 2
    weak = edited(init=Init(image=INIT, strength=0.1))
    assert np.array_equal(make(desk, weak)[0].pixels, usual)


def test_edits_with_and_without_guidance_share_a_forward(desk: Desk) -> None:
    lanes = [first_lane(desk, edited()), first_lane(desk, edited(cfg_scale=1.0))]
    assert [lane.rows for lane in lanes] == [3, 1]
    assert pick(lanes) == lanes
    seen = [lane.model_input()[:, 4:] for lane in lanes]
    assert not seen[0][0].any()
    assert torch.equal(seen[0][1], seen[0][2])
    assert torch.equal(seen[0][1], seen[1][0])


# -- depth ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(6)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    parts = {
        "depth_estimator": DPTForDepthEstimation(config).eval(),
        "feature_extractor": DPTImageProcessor(size={"height": 32, "width": 32}),
    }
    model = build_sd_2(folder / "plain", "epsilon")
    return Pair(folder, model, load_plainly(model), StableDiffusionDepth2ImgPipeline, 1, **parts)


@pytest.fixture(scope="module")
def deep_desk(deep: Pair, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return deep.desk(tmp_path_factory.mktemp("job"), "depth")


def test_a_given_depth_is_seen_as_diffusers_shows_it(deep: Pair, deep_desk: Desk) -> None:
    wanted = image(**EDITED, scheduler="ddim", init=Init(image=INIT, strength=0.7, depth=DEPTH))
    given = torch.from_numpy(np.mgrid[0:48, 0:32][0] * 1200).float()[None]
    expected = _edited_plainly(deep.plain, wanted, image=drawn_picture(), strength=0.7, depth_map=given)
    assert difference(make(deep_desk, wanted)[0].pixels, expected) <= 2


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")
def test_without_a_depth_map_the_models_own_estimator_is_asked(deep: Pair, deep_desk: Desk) -> None:
    wanted = image(**EDITED, init=Init(image=INIT, strength=1.0))
    expected = _edited_plainly(deep.plain, wanted, image=drawn_picture(), strength=1.0)
    picture = make(deep_desk, wanted)[0].pixels
    assert difference(picture, expected) <= 2
    given = make(deep_desk, image(**EDITED, init=Init(image=INIT, strength=1.0, depth=DEPTH)))[0].pixels
    assert difference(picture, given) > 2


def test_without_a_depth_map_and_without_an_estimator_is_an_error(deep_desk: Desk, tmp_path: Path) -> None:
    pipeline = deep_desk.pipeline
    bare = replace(deep_desk, pipeline=replace(pipeline, model=replace(pipeline.model, path=str(tmp_path))))
    with pytest.raises(RenderError, match=r"has no estimator of depth .* Give a depth map, bright is near, with depth"):
        first_lane(bare, image(init=Init(image=INIT)))


def test_a_flat_depth_is_the_same_everywhere() -> None:
    assert not depth_map(torch.full((9, 9), 7.0), (4, 4)).any()
    sloping = depth_map(torch.arange(64.0).reshape(8, 8), (8, 8))
    assert (float(sloping.min()), float(sloping.max())) == (-1, 1)
    assert float(sloping[0, 0, 0, 0]) == -1, "far is dark"
