"""The tables name every tensor of a part, as the original code and diffusers name them, for any widths and depths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from benchmarks import make_checkpoint
from invokeai_daemon.models.convert.clip import Clip, OpenClip
from invokeai_daemon.models.convert.controlnet import ControlNet, DiffusersControlNet
from invokeai_daemon.models.convert.layout import MissingTensorError, Part, count
from invokeai_daemon.models.convert.unet import UNet, XlUNet
from invokeai_daemon.models.convert.vae import DiffusersVae, Vae
from tests.models.convert import small

DEMO_UNET = UNet(4, 4, widths=(32, 64, 128), attention=(True, True, False), depth=2, context=64)
DEMO_VAE = Vae(3, 3, 4, widths=(32, 32, 64, 64), depth=2)
DEMO_CLIP = Clip(49408, 77, width=64, layers=2, inner=256)

REAL: dict[str, Part] = {
    "sd-1.5 unet": make_checkpoint.UNET,
    "sd-1.5 inpainting unet": replace(make_checkpoint.UNET, in_channels=9),
    "demo unet": DEMO_UNET,
    "unet of one level": UNet(4, 4, widths=(32,), attention=(True,), depth=1, context=16),
    "unet without attention at the finest level": UNet(4, 4, (32, 64), attention=(False, True), depth=3, context=16),
    "sd-1.5 vae": make_checkpoint.VAE,
    "demo vae": DEMO_VAE,
    "vae of one level": Vae(3, 3, 4, widths=(32,), depth=1),
    "sd-1.5 text encoder": make_checkpoint.CLIP,
    "demo text encoder": DEMO_CLIP,
    "sd-2 unet": make_checkpoint.UNET_2,
    "sd-2 text encoder": make_checkpoint.CLIP_2,
    "sdxl unet": make_checkpoint.UNET_XL,
    "sdxl text encoder": make_checkpoint.CLIP_XL,
    "refiner unet": make_checkpoint.UNET_REFINER,
    "controlnet": make_checkpoint.CONTROLNET,
    "sdxl controlnet": make_checkpoint.CONTROLNET_XL,
    "vae without convolutions around its latents": Vae(3, 3, 16, widths=(8, 16), depth=1, quant=False),
}


def as_diffusers_builds_it(part: Part) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the class that the config names, built without memory."""
    import diffusers
    import torch
    import transformers

    config: dict[str, Any] = part.config()
    with torch.device("meta"):
        if isinstance(part, Clip):
            (kind,) = config["architectures"]
            model = getattr(transformers, kind)(transformers.CLIPTextConfig(**config))
        else:
            model = getattr(diffusers, config.pop("_class_name"))(**config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", REAL)
def test_a_part_has_exactly_the_tensors_that_diffusers_builds_from_its_config(name: str) -> None:
    part = REAL[name]
    ours = {rename.target.removeprefix("text_model."): rename.shape for rename in part.renames()}
    theirs = {name.removeprefix("text_model."): shape for name, shape in as_diffusers_builds_it(part).items()}
    assert ours == theirs


def test_the_full_size_layout_has_as_many_tensors_as_the_published_checkpoint() -> None:
    assert [len(list(part.renames())) for part in make_checkpoint.MODELS["sd-1"].values()] == [686, 248, 196]
    assert len(make_checkpoint.layout("sdxl")) == 2515


@pytest.mark.parametrize(
    ("part", "source", "target"),
    [
        (make_checkpoint.UNET, "input_blocks.0.0.weight", "conv_in.weight"),
        (
            make_checkpoint.UNET,
            "input_blocks.4.0.skip_connection.weight",
            "down_blocks.1.resnets.0.conv_shortcut.weight",
        ),
        (make_checkpoint.UNET, "input_blocks.9.0.op.bias", "down_blocks.2.downsamplers.0.conv.bias"),
        (make_checkpoint.UNET, "output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        (make_checkpoint.UNET, "output_blocks.8.2.conv.weight", "up_blocks.2.upsamplers.0.conv.weight"),
        (make_checkpoint.UNET, "output_blocks.11.1.norm.bias", "up_blocks.3.attentions.2.norm.bias"),
        (make_checkpoint.UNET, "middle_block.2.emb_layers.1.weight", "mid_block.resnets.1.time_emb_proj.weight"),
        (make_checkpoint.VAE, "decoder.up.3.block.0.norm1.weight", "decoder.up_blocks.0.resnets.0.norm1.weight"),
        (make_checkpoint.VAE, "encoder.mid.attn_1.proj_out.weight", "encoder.mid_block.attentions.0.to_out.0.weight"),
        (make_checkpoint.UNET_XL, "input_blocks.8.1.norm.bias", "down_blocks.2.attentions.1.norm.bias"),
        (make_checkpoint.UNET_XL, "output_blocks.2.2.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
        (make_checkpoint.UNET_XL, "label_emb.0.2.weight", "add_embedding.linear_2.weight"),
        (make_checkpoint.CLIP_XL, "text_projection", "text_projection.weight"),
        (make_checkpoint.CONTROLNET, "zero_convs.11.0.bias", "controlnet_down_blocks.11.bias"),
        (make_checkpoint.CONTROLNET, "input_hint_block.14.weight", "controlnet_cond_embedding.conv_out.weight"),
        (make_checkpoint.CLIP, "final_layer_norm.weight", "text_model.final_layer_norm.weight"),
    ],
)
def test_known_tensors_have_their_known_names(part: Part, source: str, target: str) -> None:
    assert {rename.source: rename.target for rename in part.renames()}[source] == target


widths = some.lists(some.sampled_from([8, 16, 24, 32]), min_size=1, max_size=5)


def a_unet(kind: type[UNet], levels: list[tuple[int, int]], middle: int, **rest: Any) -> UNet:
    # What diffusers can say: the middle has as many blocks as the coarsest attention, if there is one.
    middle = levels[-1][1] or middle
    return kind(widths=tuple(w for w, _ in levels), attention=tuple(a for _, a in levels), middle=middle, **rest)


unets = some.builds(
    a_unet,
    some.sampled_from([UNet, XlUNet]),
    some.lists(some.tuples(some.sampled_from([8, 16, 24]), some.integers(0, 3)), min_size=1, max_size=5),
    some.integers(1, 3),
    in_channels=some.sampled_from([4, 5, 9]),
    out_channels=some.just(4),
    depth=some.integers(1, 4),
    context=some.sampled_from([16, 64]),
    linear=some.booleans(),
    vector=some.sampled_from([0, 40]),
)
controlnets = some.builds(
    lambda kind, unet, widths: kind(XlUNet(**{**vars(unet), "out_channels": 0}), 3, tuple(widths)),
    some.sampled_from([ControlNet, DiffusersControlNet]),
    unets,
    some.lists(some.sampled_from([2, 4]), min_size=1, max_size=4),
)
vaes = some.builds(
    lambda kind, levels, depth, quant: kind(3, 3, 4, widths=tuple(levels), depth=depth, quant=quant),
    some.sampled_from([Vae, DiffusersVae]),
    widths,
    some.integers(1, 4),
    some.booleans(),
)
clips = some.builds(
    lambda kind, *sizes: kind(*sizes),
    some.sampled_from([Clip, OpenClip]),
    some.just(50),
    some.just(7),
    some.sampled_from([64, 128]),
    some.integers(1, OpenClip.READ),
    some.just(9),
)


@settings(max_examples=60, deadline=None)
@given(some.one_of(unets, vaes, clips, controlnets))
def test_what_is_inferred_from_the_shapes_of_a_part_is_that_part(part: Part) -> None:
    renames = list(part.renames())
    shapes = {rows.source: rows.shape for rename in renames for rows in rename.rows}
    assert any(name.startswith(part.signature) for name in shapes)
    assert type(part).infer(shapes) == part
    assert type(part).from_config(part.config()) == part
    assert len({rename.rows for rename in renames}) == len({rename.target for rename in renames}) == len(renames)


@pytest.mark.parametrize("part", small.PARTS, ids=lambda part: type(part).__name__)
def test_a_part_that_cannot_be_told_names_the_tensor_it_needs(part: Part) -> None:
    with pytest.raises(MissingTensorError):
        type(part).infer({"unrelated.weight": (1,)})


def test_made_up_block_numbers_do_not_ask_for_a_million_blocks() -> None:
    assert count({"down.999999999.weight": (1,), "down.٣.weight": (1,), "down.1.weight": (1,)}, "down.") == 2
