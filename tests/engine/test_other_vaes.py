"""Other VAEs: diffusers' pictures with that VAE, lanes of several share forwards; tiles and types as settings say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.other_vaes import OtherVae, other_vae
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.loading.pipelines import Pipelines
from invokeai_daemon.engine.loading.vae import Vae, VaeSettings
from invokeai_daemon.engine.passes import Desk
from invokeai_daemon.errors import ModelError, ModelMissing
from invokeai_daemon.job.plan import ModelRef, Plan
from invokeai_daemon.settings import RenderSettings
from tests.engine.build import image, new_vae
from tests.engine.conftest import Pixels, difference, render_plainly, start_lanes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vaes")


@pytest.fixture(scope="module")
def other(folder: Path) -> ModelRef:
    torch.manual_seed(7)
    new_vae(scaling_factor=0.2).save_pretrained(folder / "other")
    return ModelRef("other", str(folder / "other"), "sd-1", "vae", asked="other")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> ModelRef:
    torch.manual_seed(8)
    AutoencoderTiny().save_pretrained(folder / "tiny")
    return ModelRef("tiny", str(folder / "tiny"), "sd-1", "vae", asked="tiny")


@pytest.fixture
def kept() -> Pipelines:
    return Pipelines(RenderSettings(cache_gb=1), torch.device("cpu"), 2)


def finished(lane: Lane) -> Pixels:
    while not lane.is_done:
        denoise_step([lane])
    [picture] = decode([lane])
    return picture.pixels


def with_vae(plain: Any, vae: Any) -> Any:
    """diffusers' own pipeline with another VAE."""
    changed = type(plain)(**{**plain.components, "vae": vae.eval()}, requires_safety_checker=False)
    changed.set_progress_bar_config(disable=True)
    changed.own_scheduler = plain.own_scheduler
    return changed


def test_a_picture_is_that_of_diffusers_with_the_vae(
    pipeline: Pipeline, plain: Any, kept: Pipelines, other: ModelRef, tiny: ModelRef
) -> None:
    for model, kind in ((other, AutoencoderKL), (tiny, AutoencoderTiny)):
        [lane] = start_lanes(pipeline, [image(seed=3)])
        lane.other_vae = other_vae(kept, model, pipeline, set())
        expected = render_plainly(with_vae(plain, kind.from_pretrained(model.path)), image(seed=3))
        assert difference(finished(lane), expected) <= 3
        [own] = start_lanes(pipeline, [image(seed=3)])
        assert difference(finished(own), expected) > 20


def test_the_file_of_a_tiny_vae_is_used_in_place(
    pipeline: Pipeline, kept: Pipelines, folder: Path, tiny: ModelRef
) -> None:
    save_file(AutoencoderTiny.from_pretrained(tiny.path).state_dict(), folder / "taesd.safetensors")
    in_place = replace(tiny, path=str(folder / "taesd.safetensors"), format="checkpoint")
    lanes = start_lanes(pipeline, [image(seed=3), image(seed=3)])
    for lane, model in zip(lanes, (tiny, in_place), strict=True):
        lane.other_vae = other_vae(kept, model, pipeline, set())
    one, two = (finished(lane) for lane in lanes)
    assert np.array_equal(one, two)


def test_a_picture_to_start_from_is_encoded_with_it(
    pipeline: Pipeline, kept: Pipelines, other: ModelRef, tiny: ModelRef
) -> None:
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plan = Plan("job", pipeline.model, (image(),))
    latents = []
    for model in (None, other, tiny):
        vae = None if model is None else other_vae(kept, model, pipeline, set())
        latents.append(Desk(plan, Path(), pipeline, vae).encode(pixels, image()))
    kl = AutoencoderKL.from_pretrained(other.path)
    with torch.inference_mode():
        assert torch.allclose(latents[1], kl.encode(pixels).latent_dist.mode() * 0.2, atol=1e-4)
        assert torch.allclose(latents[2], AutoencoderTiny.from_pretrained(tiny.path).encode(pixels).latents, atol=1e-4)
    assert not torch.allclose(latents[0], latents[1], atol=1e-2)


def test_lanes_of_different_vaes_share_forwards_and_keep_their_bits(
    pipeline: Pipeline, kept: Pipelines, other: ModelRef
) -> None:
    def lanes() -> list[Lane]:
        own, changed = start_lanes(pipeline, [image(1), image(2)])
        changed.other_vae = other_vae(kept, other, pipeline, set())
        return [own, changed]

    together = lanes()
    assert together[0].group == together[1].group
    while not together[0].is_done:
        denoise_step(together)
    pictures = [decode([lane])[0].pixels for lane in together]
    assert all(np.array_equal(one, finished(lane)) for one, lane in zip(pictures, lanes(), strict=True))


def test_it_is_loaded_once_counts_in_memory_and_is_given_up(
    pipeline: Pipeline, kept: Pipelines, other: ModelRef
) -> None:
    first = other_vae(kept, other, pipeline, set())
    assert other_vae(kept, other, pipeline, set()) is first
    assert first.size == sum(each.nbytes for each in new_vae().state_dict().values())
    kept.make_room(kept.budget, {first})
    assert other_vae(kept, other, pipeline, set()) is first
    kept.make_room(kept.budget, set())
    assert other_vae(kept, other, pipeline, set()) is not first


def test_a_vae_of_another_kind_of_latents_is_refused(pipeline: Pipeline, kept: Pipelines, folder: Path) -> None:
    AutoencoderTiny(latent_channels=16).save_pretrained(folder / "wide")
    (folder / "odd").mkdir()
    (folder / "odd/config.json").write_text('{"_class_name": "AutoencoderDC"}')
    save_file({"x": torch.zeros(1)}, folder / "x.safetensors")
    for name, message in {
        "wide": 'makes latents of 16 channels at 1/8 of the size; model "tiny" needs 4 channels',
        "odd": "it is a AutoencoderDC; AutoencoderKL and AutoencoderTiny can be used",
        "x.safetensors": "it is not the file of a tiny VAE",
    }.items():
        with pytest.raises(ModelError, match=message):
            other_vae(kept, ModelRef(name, str(folder / name), "sd-1", "vae"), pipeline, set())
    with pytest.raises(ModelMissing, match="is not there any more"):
        other_vae(kept, ModelRef("gone", str(folder / "gone"), "sd-1", "vae"), pipeline, set())


@pytest.mark.parametrize("kind", ["own", "tiny"])
def test_tiles_are_those_of_diffusers(pipeline: Pipeline, kept: Pipelines, tiny: ModelRef, kind: str) -> None:
    found: OtherVae | None = other_vae(kept, tiny, pipeline, set()) if kind == "tiny" else None
    own = pipeline.vae if found is None else found.vae
    rows, side = (2, 16) if found is None else (1, 72)
    latents = torch.randn(rows, 4, side, 8, generator=torch.Generator().manual_seed(1))
    whole, _ = own.decode(latents)
    tiled, _ = own.decode(latents, tiled=True)
    own.model.enable_tiling()
    try:
        with torch.inference_mode():
            expected = own.model.decode(latents / own.config.scaling_factor, return_dict=False)[0]
            encoded = own.model.encode(whole)
    finally:
        own.model.disable_tiling()
    assert torch.allclose(tiled, expected, atol=1e-5)
    assert not torch.allclose(tiled, whole, atol=1e-3)
    expected = encoded.latents if found is not None else encoded.latent_dist.mode() * own.config.scaling_factor
    assert torch.allclose(own.encode(whole, tiled=True), expected, atol=1e-4)


def test_the_settings_say_when_there_are_tiles(pipeline: Pipeline) -> None:
    latents = torch.randn(1, 4, 16, 8, generator=torch.Generator().manual_seed(1))
    vae = {
        tiling: Vae(pipeline.vae.model, pipeline.share, VaeSettings(tiling=tiling)) for tiling in ("always", "never")
    }
    whole, tiled = pipeline.vae.decode(latents)[0], pipeline.vae.decode(latents, tiled=True)[0]
    assert torch.equal(vae["always"].decode(latents)[0], tiled)
    assert torch.equal(vae["never"].decode(latents, tiled=True)[0], whole)
    # A piece would meet its own edges.
    assert torch.equal(*(vae[each].decode(latents, (True, False), tiled=True)[0] for each in ("always", "never")))


def test_the_settings_say_how_precise_it_is(model: ModelRef, other: ModelRef) -> None:
    settings = VaeSettings(precision="bfloat16")
    loaded = load_pipeline(model, torch.device("cpu"), "float32", cores=2, vae_settings=settings)
    kept = Pipelines(RenderSettings(cache_gb=1, vae_precision="bfloat16"), torch.device("cpu"), 2)
    assert (loaded.vae.dtype, loaded.dtype) == (torch.bfloat16, torch.float32)
    assert other_vae(kept, other, loaded, set()).vae.dtype is torch.bfloat16
    assert kept.vae_settings == settings
    cuda = torch.device("cuda")
    assert VaeSettings().dtype(overflows=True, device=cuda, dtype=torch.float16) is torch.float32
    assert VaeSettings("float16").dtype(overflows=True, device=cuda, dtype=torch.bfloat16) is torch.float16
