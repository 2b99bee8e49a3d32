"""IP-Adapters: diffusers' pictures, plain and plus, methods, several pictures, and a UNet that is left as it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from invokeai_daemon.engine.controls.blocks import counts_in
from invokeai_daemon.engine.controls.vision import Vision
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.errors import ModelError, RenderError
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema import IPAdapter
from tests.engine.build import image
from tests.engine.build_controls import build_prompter, build_vision, picture, prompter_tensors
from tests.engine.conftest import Pixels, difference, render, render_plainly
from tests.engine.studio import Studio

PLAIN, PLUS = "plain", "plus"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline, plain: Any) -> Studio:
    folder = tmp_path_factory.mktemp("prompts")
    studio = Studio(folder, pipeline, plain)
    studio.add(
        build_vision(folder / "vision"),
        build_prompter(folder / f"{PLAIN}.safetensors", plain.unet, 1),
        build_prompter(folder / f"{PLUS}.safetensors", plain.unet, 2, is_plus=True),
    )
    studio.put("one.png", picture(1, 48, 40))
    studio.put("other.png", picture(2, 40, 48))
    return studio


def asked(name: str = PLAIN, file: str = "one.png", **words: Any) -> IPAdapter:
    return IPAdapter(name=name, image=file, **{"image_encoder": "vision", **words})


def prompted(*prompts: IPAdapter, **values: Any) -> Image:
    return image(ip_adapters=prompts, **values)


def plainly(studio: Studio, wanted: Image, names: list[str], pictures: list[Any], scales: list[Any]) -> Pixels:
    """As diffusers does it, whose UNet gets other attentions meanwhile."""
    unet = studio.plain.unet
    before = dict(unet.attn_processors)
    encoder = CLIPVisionModelWithProjection.from_pretrained(studio.folder / "vision")
    plain = studio.as_plain(
        type(studio.plain), image_encoder=encoder, feature_extractor=CLIPImageProcessor(size=32, crop_size=32)
    )
    states = [_in_parts(load_file(studio.folder / f"{name}.safetensors")) for name in names]
    plain.load_ip_adapter(states, subfolder=[""] * len(names), weight_name=[""] * len(names), low_cpu_mem_usage=False)
    plain.set_ip_adapter_scale(scales)
    try:
        return render_plainly(plain, wanted, ip_adapter_image=pictures)
    finally:
        unet.encoder_hid_proj = None
        unet.config.encoder_hid_dim_type = None
        unet.set_attn_processor(before)


def _in_parts(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    return {
        part: {name.removeprefix(f"{part}."): each for name, each in tensors.items() if name.startswith(part)}
        for part in ("image_proj", "ip_adapter")
    }


@pytest.mark.parametrize("name", [PLAIN, PLUS])
def test_one_gives_the_picture_of_diffusers(studio: Studio, name: str) -> None:
    wanted = prompted(asked(name, weight=0.8), negative_prompt="blurred")
    [ours] = studio.render([wanted])
    assert difference(ours, plainly(studio, wanted, [name], [picture(1, 48, 40)], [0.8])) <= 3
    [without] = render(studio.pipeline, [image(negative_prompt="blurred")])
    assert difference(ours, without) > 3


def test_several_give_the_picture_of_diffusers(studio: Studio) -> None:
    [ours] = studio.render([prompted(asked(weight=0.5), asked(PLUS, "other.png", weight=0.9))])
    pictures = [picture(1, 48, 40), picture(2, 40, 48)]
    assert difference(ours, plainly(studio, image(), [PLAIN, PLUS], pictures, [0.5, 0.9])) <= 3


def test_a_method_lets_the_picture_count_in_some_blocks_as_diffusers_scales_them(studio: Studio) -> None:
    # Of this small model, "style" counts in the second block of the way up, which has two attentions.
    [ours] = studio.render([prompted(asked(method="style", weight=0.7))])
    theirs = plainly(studio, image(), [PLAIN], [picture(1, 48, 40)], [{"up": {"block_1": [0.7, 0.7]}}])
    assert difference(ours, theirs) <= 3
    [full] = studio.render([prompted(asked(weight=0.7))])
    assert difference(ours, full) > 0


def test_methods_choose_the_blocks_of_invokeai() -> None:
    sdxl = ("up_blocks.0.attentions.1.x", "down_blocks.2.attentions.1.x", "down_blocks.1.attentions.0.x", "mid_block.x")
    sd_1 = ("up_blocks.1.x", "down_blocks.2.x", "down_blocks.1.x", "mid_block.x", "up_blocks.3.x")
    chosen = {
        "full": ([True] * 4, [True] * 5),
        "style": ([True, False, False, False], [True, False, False, False, False]),
        "composition": ([False, True, False, False], [False, True, False, True, False]),
        "style_precise": ([True, True, False, False], [True, True, False, True, False]),
        "style_strong": ([True, False, True, False], [True, False, True, False, False]),
    }
    for method, (in_sdxl, in_sd_1) in chosen.items():
        assert [counts_in("sdxl", method, name) for name in sdxl] == in_sdxl, method
        assert [counts_in("sd-1", method, name) for name in sd_1] == in_sd_1, method


def test_the_unet_is_left_as_it_was(studio: Studio) -> None:
    unet = studio.pipeline.denoiser.model
    processors = dict(unet.attn_processors)
    [before] = render(studio.pipeline, [image()])
    studio.render([prompted(asked(), asked(PLUS))])
    assert unet.attn_processors == processors
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
    [after] = render(studio.pipeline, [image()])
    assert np.array_equal(before, after)


def test_neighbours_with_other_pictures_and_weights_change_no_bit(studio: Studio) -> None:
    wanted = [
        prompted(asked(PLUS)),
        prompted(asked(PLUS, "other.png", weight=0.3, end=0.4), number=2),
        prompted(asked(PLUS, weight=0.0), number=3, cfg_scale=1.0),
    ]
    together = studio.render(wanted)
    for one, shared in zip(wanted, together, strict=True):
        [alone] = studio.render([one])
        assert np.array_equal(alone, shared), one.number
    [without] = render(studio.pipeline, [image(3, cfg_scale=1.0)])
    assert np.array_equal(together[2], without)


def test_a_folder_as_invokeai_has_it_gives_the_same_picture(studio: Studio) -> None:
    folder = studio.folder / "as-invokeai"
    folder.mkdir()
    parts = _in_parts(load_file(studio.folder / f"{PLAIN}.safetensors"))
    torch.save(parts, folder / "ip_adapter.bin")
    (folder / "image_encoder.txt").write_text("InvokeAI/ip_adapter_sd_image_encoder")
    single = studio.plan.reference("ip_adapter", PLAIN)
    studio.add(replace(single, path=str(folder), asked="as-invokeai", format="invokeai"))
    one, other = studio.render([prompted(asked())]), studio.render([prompted(asked("as-invokeai"))])
    assert np.array_equal(one[0], other[0])


def test_one_for_another_kind_of_model_is_told_by_name(studio: Studio, tmp_path: Path) -> None:
    tensors = prompter_tensors(studio.plain.unet, 3)
    tensors["ip_adapter.1.to_k_ip.weight"] = torch.zeros(320, 32)
    save_file(tensors, tmp_path / "odd.safetensors")
    reference = build_prompter(tmp_path / "even.safetensors", studio.plain.unet, 3)
    studio.add(replace(reference, path=str(tmp_path / "odd.safetensors"), name="odd", asked="odd"))
    with pytest.raises(ModelError, match=r'ip_adapter "odd" could not be loaded .* made for another kind of model'):
        studio.lanes([prompted(asked("odd"))])


def test_the_images_of_a_job_look_at_a_picture_once(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, real = [], Vision.whole
    monkeypatch.setattr(Vision, "whole", lambda self, picture: looks.append(1) or real(self, picture))
    studio.put("new.png", picture(9))
    lanes = studio.lanes([prompted(asked(file="new.png", weight=weight), number=1) for weight in (0.2, 0.4, 0.6)])
    assert len(looks) == 1
    assert [lane.attached.prompts[0].asked.weight for lane in lanes] == [0.2, 0.4, 0.6]


def test_an_encoder_without_a_projection_serves_only_those_that_see_patches(studio: Studio, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(studio.folder / "vision", half)
    tensors = load_file(half / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, half / "model.safetensors", metadata={"format": "pt"})
    vision = studio.plan.reference("clip_vision", "vision")
    studio.add(replace(vision, path=str(half), name="half", asked="half", hash="blake3:half"))
    one, other = (prompted(asked(PLUS, image_encoder=name)) for name in ("vision", "half"))
    assert np.array_equal(*studio.render([one]), *studio.render([other]))
    with pytest.raises(RenderError, match="no visual_projection"):
        studio.lanes([prompted(asked(PLAIN, image_encoder="half"))])
