"""The tables name every tensor of a part, as the original code and diffusers name them, for any widths and depths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from benchmarks import make_checkpoint
from invokeai_daemon.models.convert.clip import Clip
from invokeai_daemon.models.convert.layout import MissingTensorError, Part, count
from invokeai_daemon.models.convert.unet import UNet
from invokeai_daemon.models.convert.vae import Vae
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
}


def as_diffusers_builds_it(part: Part) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the class that the config names, built without memory."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    config: dict[str, Any] = part.config()
    with torch.device("meta"):
        if isinstance(part, Clip):
            model = CLIPTextModel(CLIPTextConfig(**config))
        else:
            config.pop("_class_name")
            model = (UNet2DConditionModel if isinstance(part, UNet) else AutoencoderKL)(**config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", REAL)
def test_a_part_has_exactly_the_tensors_that_diffusers_builds_from_its_config(name: str) -> None:
    part = REAL[name]
    ours = {rename.target.removeprefix("text_model."): rename.shape for rename in part.renames()}
    theirs = {name.removeprefix("text_model."): shape for name, shape in as_diffusers_builds_it(part).items()}
    assert ours == theirs


def test_the_full_size_layout_has_as_many_tensors_as_the_published_checkpoint() -> None:
    assert [
        len(list(part.renames())) for part in (make_checkpoint.UNET, make_checkpoint.VAE, make_checkpoint.CLIP)
    ] == [
        686,
        248,
        196,
    ]


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
        (make_checkpoint.CLIP, "final_layer_norm.weight", "text_model.final_layer_norm.weight"),
    ],
)
def test_known_tensors_have_their_known_names(part: Part, source: str, target: str) -> None:
    assert {rename.source: rename.target for rename in part.renames()}[source] == target


widths = some.lists(some.sampled_from([8, 16, 24, 32]), min_size=1, max_size=5)
unets = some.builds(
    lambda levels, **rest: UNet(widths=tuple(w for w, _ in levels), attention=tuple(a for _, a in levels), **rest),
    some.lists(some.tuples(some.sampled_from([8, 16, 24]), some.booleans()), min_size=1, max_size=5),
    in_channels=some.sampled_from([4, 5, 9]),
    out_channels=some.just(4),
    depth=some.integers(1, 4),
    context=some.sampled_from([16, 64]),
)
vaes = some.builds(lambda levels, depth: Vae(3, 3, 4, widths=tuple(levels), depth=depth), widths, some.integers(1, 4))
clips = some.builds(Clip, some.just(50), some.just(7), some.sampled_from([64, 128]), some.integers(1, 24), some.just(9))


@settings(max_examples=60, deadline=None)
@given(some.one_of(unets, vaes, clips))
def test_what_is_inferred_from_the_shapes_of_a_part_is_that_part(part: Part) -> None:
    renames = list(part.renames())
    assert type(part).infer({rename.source: rename.shape for rename in renames}) == part
    assert type(part).from_config(part.config()) == part
    assert len({rename.source for rename in renames}) == len({rename.target for rename in renames}) == len(renames)


@pytest.mark.parametrize("part", small.PARTS, ids=lambda part: type(part).__name__)
def test_a_part_that_cannot_be_told_names_the_tensor_it_needs(part: Part) -> None:
    with pytest.raises(MissingTensorError):
        type(part).infer({"unrelated.weight": (1,)})


def test_made_up_block_numbers_do_not_ask_for_a_million_blocks() -> None:
    assert count({"down.999999999.weight": (1,), "down.٣.weight": (1,), "down.1.weight": (1,)}, "down.") == 2
