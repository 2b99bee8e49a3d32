"""SDXL with each kind of control gives the pictures of diffusers."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import (
    ControlNetModel,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetPipeline,
    T2IAdapter,
)
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema import ControlNet, IPAdapter
from invokeai_daemon.job.schema import T2IAdapter as Asked
from tests.engine.build import image
from tests.engine.build_controls import (
    build_adapter,
    build_controlnet,
    build_prompter,
    build_vision,
    picture,
)
from tests.engine.conftest import Pixels, difference, render, render_plainly
from tests.engine.studio import Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, xl: Pipeline, plain_xl: Any) -> Studio:
    folder = tmp_path_factory.mktemp("sdxl")
    studio = Studio(folder, xl, plain_xl)
    unet = studio.plain.unet
    studio.add(
        build_controlnet(folder / "net-1", unet, 1),
        build_adapter(
            folder / "adapter-1", 1, adapter_type="full_adapter_xl", channels=[32, 64, 64, 64], downscale_factor=16
        ),
        build_vision(folder / "vision"),
        build_prompter(folder / "plus.safetensors", unet, 2, is_plus=True),
    )
    studio.put("one.png", picture(1))
    studio.put("other.png", picture(2))
    return studio


def wanted(**words: object) -> Image:
    return image(steps=3, negative_prompt="blurred", **words)


def without(studio: Studio) -> Pixels:
    [made] = render(studio.pipeline, [wanted()])
    return made


def test_a_controlnet_and_an_ip_adapter_give_the_picture_of_diffusers(studio: Studio) -> None:
    net = ControlNet(name="net-1", image="one.png", processor="none")
    prompt = IPAdapter(name="plus", image="other.png", weight=0.6, image_encoder="vision")
    [ours] = studio.render([wanted(controlnets=(net,), ip_adapters=(prompt,))])
    plain = studio.as_plain(
        StableDiffusionXLControlNetPipeline,
        controlnet=ControlNetModel.from_pretrained(studio.folder / "net-1"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(studio.folder / "vision"),
        feature_extractor=CLIPImageProcessor(size=32, crop_size=32),
    )
    tensors = load_file(studio.folder / "plus.safetensors")
    parts = {
        part: {name.removeprefix(f"{part}."): each for name, each in tensors.items() if name.startswith(part)}
        for part in ("image_proj", "ip_adapter")
    }
    before = dict(plain.unet.attn_processors)
    plain.load_ip_adapter(parts, subfolder="", weight_name="", low_cpu_mem_usage=False)
    plain.set_ip_adapter_scale(0.6)
    words = {"image": picture(1), "ip_adapter_image": picture(2), "controlnet_conditioning_scale": 1.0}
    theirs = render_plainly(plain, wanted(), **words)
    plain.unet.encoder_hid_proj = plain.unet.config.encoder_hid_dim_type = None
    plain.unet.set_attn_processor(before)
    assert difference(ours, theirs) <= 3
    assert difference(ours, without(studio)) > 20


def test_a_t2i_adapter_gives_the_picture_of_diffusers(studio: Studio) -> None:
    adapter = Asked(name="adapter-1", image="one.png", processor="none", weight=0.9)
    [ours] = studio.render([wanted(t2i_adapters=(adapter,))])
    loaded = T2IAdapter.from_pretrained(studio.folder / "adapter-1")
    plain = studio.as_plain(StableDiffusionXLAdapterPipeline, adapter=loaded)
    assert difference(ours, render_plainly(plain, wanted(), image=picture(1), adapter_conditioning_scale=0.9)) <= 3
    assert difference(ours, without(studio)) > 3
