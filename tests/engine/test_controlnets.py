"""ControlNets: diffusers' pictures, modes and ranges of steps, several for one image, and neighbours without effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
)
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file

from invokeai_daemon.engine.controls.controlnets import load_net
from invokeai_daemon.engine.controls.during import counts
from invokeai_daemon.engine.controls.pictures import fitted
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.painting.pictures import begun_with, pixels_of
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schema import ControlNet, Init
from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.engine.build import HEADS, image, new_unet
from tests.engine.build_controls import build_controlnet, picture
from tests.engine.conftest import Pixels, difference, render, render_plainly
from tests.engine.studio import Studio
from tests.models.convert.models import ALONE, write

ONE, OTHER = "net-1", "net-2"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline, plain: Any) -> Studio:
    folder = tmp_path_factory.mktemp("controls")
    studio = Studio(folder, pipeline, plain)
    studio.add(*(build_controlnet(folder / f"net-{seed}", studio.plain.unet, seed) for seed in (1, 2)))
    studio.put("one.png", picture(1))
    studio.put("other.png", picture(2))
    studio.put("wide.png", picture(3, 96, 48))
    return studio


def asked(name: str = ONE, file: str = "one.png", **words: Any) -> ControlNet:
    return ControlNet(name=name, image=file, **{"processor": "none", **words})


def controlled(*nets: ControlNet, **values: Any) -> Image:
    return image(controlnets=nets, **values)


def net(studio: Studio, name: str = ONE) -> ControlNetModel:
    return ControlNetModel.from_pretrained(studio.folder / name)


def plainly(studio: Studio, wanted: Image, *nets: ControlNetModel, **words: Any) -> Pixels:
    control = nets[0] if len(nets) == 1 else list(nets)
    plain = studio.as_plain(StableDiffusionControlNetPipeline, controlnet=control)
    return render_plainly(plain, wanted, **words)


def test_one_gives_the_picture_of_diffusers(studio: Studio) -> None:
    wanted = controlled(asked(weight=0.8), negative_prompt="blurred", scheduler="dpmpp_2m_k")
    [ours] = studio.render([wanted])
    theirs = plainly(studio, wanted, net(studio), image=picture(1), controlnet_conditioning_scale=0.8)
    assert difference(ours, theirs) <= 3
    [without] = render(studio.pipeline, [image(negative_prompt="blurred", scheduler="dpmpp_2m_k")])
    assert difference(ours, without) > 20


def test_several_give_the_picture_of_diffusers(studio: Studio) -> None:
    nets = asked(weight=0.7), asked(OTHER, "other.png", weight=-0.4)
    [ours] = studio.render([controlled(*nets)])
    words = {"image": [picture(1), picture(2)], "controlnet_conditioning_scale": [0.7, -0.4]}
    theirs = plainly(studio, image(), net(studio), net(studio, OTHER), **words)
    assert difference(ours, theirs) <= 3


def test_one_over_an_init_image_gives_the_picture_of_diffusers(studio: Studio) -> None:
    wanted = controlled(asked(), init=Init(image="other.png", strength=0.6), steps=6)
    [ours] = studio.render([wanted], begun_with(studio.desk, wanted, pixels_of(picture(2))))
    plain = studio.as_plain(StableDiffusionControlNetImg2ImgPipeline, controlnet=net(studio))
    theirs = render_plainly(
        plain, wanted, image=picture(2), control_image=picture(1), strength=0.6, controlnet_conditioning_scale=1.0
    )
    assert difference(ours, theirs) <= 3


@pytest.mark.parametrize(
    ("mode", "is_soft", "prompt_only"),
    [("more_control", True, True), ("more_prompt", True, False), ("unbalanced", False, True)],
)
def test_modes_are_combinations_of_what_diffusers_does(
    studio: Studio, mode: str, is_soft: bool, prompt_only: bool
) -> None:
    [ours] = studio.render([controlled(asked(control_mode=mode))])
    control = net(studio)
    # diffusers' guess mode is both: layers count less the finer they are, and only the prompt's row is controlled.
    forward = control.forward
    control.forward = lambda *inputs, **words: forward(*inputs, **{**words, "guess_mode": is_soft})
    theirs = plainly(studio, image(), control, image=picture(1), guess_mode=prompt_only)
    assert difference(ours, theirs) <= 3
    [balanced] = studio.render([controlled(asked())])
    assert difference(ours, balanced) > 3


def test_a_range_of_steps_counts_as_in_invokeai() -> None:
    def steps(begin: float, end: float, count: int) -> list[int]:
        return [index for index in range(count) if counts(asked(begin=begin, end=end), index, count)]

    assert steps(0, 1, 4) == [0, 1, 2, 3]
    assert steps(0.25, 0.75, 8) == [2, 3, 4, 5, 6]
    assert steps(0.3, 0.45, 10) == [3, 4, 5]
    assert steps(0, 0.7, 10) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_outside_of_its_range_it_does_nothing(studio: Studio) -> None:
    wanted = controlled(asked(begin=0.34, end=0.5), steps=6)
    [ours] = studio.render([wanted])
    # The same steps by diffusers' rule.
    words = {"control_guidance_start": 2 / 6, "control_guidance_end": 4 / 6}
    assert difference(ours, plainly(studio, wanted, net(studio), image=picture(1), **words)) <= 3


def test_weight_zero_gives_the_bits_of_no_control(studio: Studio) -> None:
    [ours] = studio.render([controlled(asked(weight=0.0))])
    [without] = render(studio.pipeline, [image()])
    assert np.array_equal(ours, without)


@pytest.fixture
def forwards(studio: Studio) -> Iterator[list[int]]:
    """The rows of each forward of the first ControlNet while the test runs."""
    [lane] = studio.lanes([controlled(asked())])
    rows: list[int] = []
    model = lane.attached.controls[0].net.model
    hook = model.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def test_lanes_share_forwards_of_the_controlnet_and_their_bits_do_not_depend_on_it(
    studio: Studio, forwards: list[int]
) -> None:
    wanted = [
        controlled(asked()),
        controlled(asked(file="other.png", weight=1.5, end=0.5), number=2, prompt="a green square"),
        controlled(asked(weight=0.0), number=3),
        controlled(asked(begin=0.5), number=4, cfg_scale=1.0),
    ]
    together = studio.render(wanted)
    assert forwards == [4, 4, 5, 3]
    for one, shared in zip(wanted, together, strict=True):
        [alone] = studio.render([one])
        assert np.array_equal(alone, shared), one.number


def test_a_controlnet_that_pools_and_takes_blue_first_gives_the_picture_of_diffusers(studio: Studio) -> None:
    words = {"global_pool_conditions": True, "controlnet_conditioning_channel_order": "bgr"}
    studio.add(build_controlnet(studio.folder / "net-9", studio.plain.unet, 9, **words))
    [ours] = studio.render([controlled(asked("net-9"))])
    assert difference(ours, plainly(studio, image(), net(studio, "net-9"), image=picture(1))) <= 3


def test_a_picture_of_another_shape_is_brought_to_size_as_asked() -> None:
    wide = Pillow.new("RGB", (96, 48), "white")
    wide.paste("black", (0, 0, 48, 48))
    modes = {mode: fitted(wide, (64, 64), mode) for mode in ("just_resize", "crop_resize", "fill_resize")}
    assert {made.size for made in modes.values()} == {(64, 64)}
    for mode, made in modes.items():
        colours = {colour for _, colour in made.getcolors() or ()}
        assert colours <= {(0, 0, 0), (255, 255, 255), (127, 127, 127), (128, 128, 128)}, mode
        assert made.getpixel((10, 32)) == (0, 0, 0)
        assert made.getpixel((54, 32)) == (255, 255, 255)
    # Only where the whole picture is kept as it is, there is something above it.
    assert modes["fill_resize"].crop((0, 0, 64, 10)).getcolors() in ([(640, (c, c, c))] for c in (0, 127, 128, 255))


def test_a_wide_picture_gives_the_picture_of_diffusers_where_it_is_resized_simply(studio: Studio) -> None:
    [ours] = studio.render([controlled(asked(file="wide.png", resize_mode="just_resize_simple"))])
    assert difference(ours, plainly(studio, image(), net(studio), image=picture(3, 96, 48))) <= 3


def test_a_control_of_another_base_than_the_pass_is_left_out(studio: Studio) -> None:
    other = replace(studio.plan.reference("controlnet", ONE), base="sdxl", asked="net-xl")
    studio.plan = replace(studio.plan, references=(*studio.plan.references, other))
    [lane] = studio.lanes([controlled(asked("net-xl"))])
    assert not lane.attached.controls


def test_a_broken_controlnet_is_told_by_name(studio: Studio, tmp_path: Path) -> None:
    broken = build_controlnet(tmp_path / "net-4", studio.plain.unet, 4)
    (tmp_path / "net-4" / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    studio.add(broken)
    with pytest.raises(ModelError, match=r'controlnet "net-4" could not be loaded from .*net-4'):
        studio.lanes([controlled(asked("net-4"))])


def test_a_controlnet_that_lacks_weights_is_told_with_one_of_them(studio: Studio, tmp_path: Path) -> None:
    less = build_controlnet(tmp_path / "net-6", studio.plain.unet, 6)
    file = tmp_path / "net-6" / "diffusion_pytorch_model.safetensors"
    save_file({name: each for name, each in load_file(file).items() if name != "conv_in.bias"}, file)
    studio.add(less)
    with pytest.raises(ModelError, match=r'"net-6" could not be loaded .*lacks 1 of its weights.* conv_in\.bias'):
        studio.lanes([controlled(asked("net-6"))])


def test_controlnets_are_given_up_when_the_budget_is_full(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = (studio.lanes([controlled(asked(name))])[0].attached.controls[0].net for name in (ONE, OTHER))
    monkeypatch.setattr(studio.pipelines, "budget", first.size + 1)
    [lane] = studio.lanes([controlled(asked())])
    assert lane.attached.controls[0].net is first
    studio.pipelines.make_room(first.size, set(lane.attached.models))
    [lane] = studio.lanes([controlled(asked(OTHER))])
    assert lane.attached.controls[0].net is not other


def test_a_controlnet_of_another_class_is_told(studio: Studio, tmp_path: Path) -> None:
    union = build_controlnet(tmp_path / "net-5", studio.plain.unet, 5)
    config = tmp_path / "net-5" / "config.json"
    config.write_text(config.read_text().replace('"ControlNetModel"', '"ControlNetUnionModel"'))
    studio.add(union)
    with pytest.raises(ModelError, match="it is a ControlNetUnionModel"):
        studio.lanes([controlled(asked("net-5"))])


def test_a_converted_single_file_can_be_used(tmp_path: Path) -> None:
    small, root = ALONE["controlnet"], Root(tmp_path / "root")
    root.make()
    source = write(tmp_path / "small.safetensors", small.tensors())
    folder = convert_model(read_header(source), small.identity, root, "small")
    loaded = load_net(folder, torch.float32, torch.device("cpu"))
    assert loaded.way_in(torch.rand(1, 3, 64, 64)).shape == (1, 32, 8, 8)


@torch.inference_mode()
def test_a_row_has_the_same_bits_with_any_number_of_others(tmp_path: Path) -> None:
    build_controlnet(tmp_path / "net", new_unet(attention_head_dim=HEADS, use_linear_projection=True), 3)
    model = load_net(tmp_path / "net", torch.float32, torch.device("cpu")).model
    before = torch.get_num_threads()
    try:
        for threads, (height, width) in product((1, 2), ((8, 8), (9, 11))):
            torch.set_num_threads(threads)
            latents, texts = torch.randn(9, 4, height, width), torch.randn(9, 77, 32)
            timesteps, hints = torch.randint(1000, (9,)).float(), torch.randn(9, 32, height, width)
            inputs = latents, timesteps, texts, hints
            down, middle = model(*inputs, return_dict=False)
            for rows in (1, 2, 7):
                told, last = model(*(each[:rows] for each in inputs), return_dict=False)
                for one, other in zip([*down, middle], [*told, last], strict=True):
                    assert torch.equal(one[:rows], other), f"{rows} rows of {height}×{width} on {threads} threads"
    finally:
        torch.set_num_threads(before)
