"""LoRAs make the pictures that diffusers makes of them, disturb no other image, and leave no trace."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step, pick
from invokeai_daemon.engine.lanes import Lane, encode_texts, start_lane
from invokeai_daemon.engine.loading.memory import Streamed
from invokeai_daemon.engine.loading.pipeline import Pipeline, load_pipeline
from invokeai_daemon.engine.loras import worn_by
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.schema.adapters import Lora
from tests.engine.build import image
from tests.engine.build_flow import build_flux
from tests.engine.conftest import Pixels, difference, load_plainly, render_plainly
from tests.engine.plain_flow import Flow

State = dict[str, Tensor]


# Files


def layers_of(model: nn.Module, *words: str) -> dict[str, nn.Module]:
    """The layers that a LoRA can change, or those of them with one of the words in their name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and (not words or any(word in name for word in words))
    }


def factors(layer: nn.Module, seed: int, rank: int = 4) -> tuple[Tensor, Tensor]:
    """Down and up."""
    rows, columns, *kernel = layer.weight.shape
    drawn = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, columns, *kernel, generator=drawn)
    return 0.3 * down, 0.3 * torch.randn(rows, rank, *[1] * len(kernel), generator=drawn)


def kohya(model: nn.Module, prefix: str, *words: str, alpha: float = 2.0) -> State:
    """All layers of a model changed, as kohya's trainers write it."""
    state: State = {}
    for number, (name, layer) in enumerate(layers_of(model, *words).items()):
        root = "" if "unet" in prefix or name.startswith(("text_model", "text_projection")) else "text_model_"
        stem = f"{prefix}{root}{name.replace('.', '_')}"
        down, up = factors(layer, number)
        state |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(alpha)}
    return state


def peft(model: nn.Module, prefix: str, *words: str) -> State:
    """The same as PEFT and diffusers write it."""
    state: State = {}
    for number, (name, layer) in enumerate(layers_of(model, *words).items()):
        root = "" if prefix in ("unet.", "transformer.") or name.startswith("text_model.") else "text_model."
        down, up = factors(layer, number)
        state |= {f"{prefix}{root}{name}.lora_A.weight": down, f"{prefix}{root}{name}.lora_B.weight": up}
    return state


def parts_of(pipeline: Pipeline) -> list[nn.Module]:
    return [pipeline.denoiser.model, *(encoder.model for encoder in pipeline.prompts.encoders)]


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


def write(folder: Path, state: State, name: str = "ink", base: str = "sd-1", **metadata: str) -> ModelRef:
    file = folder / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file, metadata=metadata)
    return ModelRef(name, str(file), base, "lora", asked=name)


# Rendering


def start(pipeline: Pipeline, wanted: Image, *references: ModelRef) -> Lane:
    outfit = worn_by(Plan("job", pipeline.model, (wanted,), references=references), wanted, pipeline.model)
    encoded = encode_texts(pipeline, [wanted], outfit)
    return start_lane(pipeline, wanted, encoded[wanted.clip_skip], outfit=outfit)


def render(pipeline: Pipeline, wanted: Image, *references: ModelRef) -> Pixels:
    return finish([start(pipeline, wanted, *references)])[0]


def finish(lanes: list[Lane]) -> list[Pixels]:
    """The pictures of lanes of any groups, which take turns."""
    while going := [lane for lane in lanes if not lane.is_done]:
        together = pick(going[len(going) // 2 :])
        assert not denoise_step(together)
    return [picture.pixels for lane in lanes for picture in decode([lane])]


def wearing(*loras: Lora, **values: object) -> Image:
    return image(loras=loras, **values)


def undressed(pipeline: Pipeline) -> list[State]:
    """All parameters of a pipeline that wears nothing."""
    pipeline.wardrobe.dress_denoiser(())
    pipeline.wardrobe.dress_encoders(())
    return [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in parts_of(pipeline)]


def assert_same(one: list[State], other: list[State]) -> None:
    for before, after in zip(one, other, strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


@contextmanager
def quietly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# Pictures


def test_a_lora_of_kohya_makes_the_picture_that_diffusers_makes(
    pipeline: Pipeline, model: ModelRef, tmp_path: Path
) -> None:
    unet, encoder = parts_of(pipeline)
    reference = write(tmp_path, {**kohya(unet, "lora_unet_", "attentions"), **kohya(encoder, "lora_te_")})
    ours = render(pipeline, wearing(Lora(name="ink", weight=0.8)), reference)
    plain = load_plainly(model)
    with quietly():
        plain.load_lora_weights(reference.path)
        plain.fuse_lora(lora_scale=0.8)
    assert difference(ours, render_plainly(plain, image())) <= 3
    assert difference(ours, render(pipeline, image())) > 30


def test_a_lora_of_peft_makes_the_picture_that_diffusers_makes(xl: Pipeline, tmp_path: Path) -> None:
    unet, small, large = parts_of(xl)
    state = peft(unet, "unet.", *ATTENTION) | peft(small, "text_encoder.", *TEXT)
    reference = write(tmp_path, state | peft(large, "text_encoder_2.", *TEXT), base="sdxl")
    ours = render(xl, wearing(Lora(name="ink", weight=0.7), negative_prompt="blue"), reference)
    plain = load_plainly(xl.model)
    with quietly():
        plain.load_lora_weights(reference.path)
        plain.fuse_lora(lora_scale=0.7)
    assert difference(ours, render_plainly(plain, image(negative_prompt="blue"))) <= 3
    assert difference(ours, render(xl, image(negative_prompt="blue"))) > 30


def test_a_lora_for_flux_makes_the_picture_that_diffusers_makes(tmp_path: Path) -> None:
    flux = Flow(build_flux(tmp_path / "flux"))
    transformer, encoder, _ = parts_of(flux.ours)
    state = peft(transformer, "transformer.", "attn", "ff") | peft(encoder, "text_encoder.", *TEXT)
    reference = write(tmp_path, state, base="flux")
    values = {"cfg_scale": 1.0, "guidance": 3.5, "steps": 2}
    ours = render(flux.ours, wearing(Lora(name="ink", weight=0.5), **values), reference)
    with quietly():
        flux.plain.load_lora_weights(reference.path)
        flux.plain.fuse_lora(components=["transformer", "text_encoder"], lora_scale=0.5)
    assert difference(ours, flux.render(image(**values))) <= 3
    assert difference(ours, render(flux.ours, image(**values))) > 10


def test_the_parts_of_a_lora_have_weights_of_their_own(pipeline: Pipeline, tmp_path: Path) -> None:
    unet, encoder = parts_of(pipeline)
    of_unet, of_texts = kohya(unet, "lora_unet_", *ATTENTION), kohya(encoder, "lora_te_")
    both = write(tmp_path, of_unet | of_texts, "both")
    apart = [write(tmp_path, of_unet, "unet"), write(tmp_path, of_texts, "texts")]
    for weight, of_texts_weight in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.25)):
        one = render(pipeline, wearing(Lora(name="both", weight=weight, text_encoder_weight=of_texts_weight)), both)
        two = wearing(Lora(name="unet", weight=weight), Lora(name="texts", weight=of_texts_weight))
        assert np.array_equal(one, render(pipeline, two, *apart))


def test_a_weight_of_nothing_changes_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    reference = write(tmp_path, kohya(parts_of(pipeline)[0], "lora_unet_", *ATTENTION))
    lane = start(pipeline, wearing(Lora(name="ink", weight=0.0)), reference)
    assert lane.outfit == ()
    assert np.array_equal(finish([lane])[0], render(pipeline, image()))


def test_several_loras_add_up(pipeline: Pipeline, tmp_path: Path) -> None:
    unet = parts_of(pipeline)[0]
    ink = write(tmp_path, kohya(unet, "lora_unet_", "to_q"), "ink")
    oil = write(tmp_path, kohya(unet, "lora_unet_", "to_q", alpha=1.0), "oil")
    name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    before = unet.get_parameter(name).clone()
    lane = start(pipeline, wearing(Lora(name="ink", weight=0.5), Lora(name="oil", weight=-2.0)), ink, oil)
    denoise_step([lane])
    number = list(layers_of(unet, "to_q")).index(name.removesuffix(".weight"))
    down, up = factors(unet.get_submodule(name.removesuffix(".weight")), number)
    expected = before + (0.5 * 2 / 4 - 2.0 * 1 / 4) * (up @ down)
    torch.testing.assert_close(unet.get_parameter(name).data, expected, rtol=0, atol=1e-6)
    render(pipeline, image())
    assert torch.equal(unet.get_parameter(name).data, before)


# No trace


def test_images_with_and_without_loras_take_turns_and_change_no_bit_of_each_other(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    unet, encoder = parts_of(pipeline)
    ink = write(tmp_path, kohya(unet, "lora_unet_") | kohya(encoder, "lora_te_"), "ink")
    oil = write(tmp_path, kohya(unet, "lora_unet_", *ATTENTION, alpha=4.0), "oil")
    images = [
        wearing(Lora(name="ink", weight=0.6), steps=3),
        image(2, steps=5),
        wearing(Lora(name="oil", weight=1.0), number=3, steps=4),
        image(4, steps=3, prompt="a green square"),
        wearing(Lora(name="ink", weight=0.6), Lora(name="oil", weight=0.2), number=5, steps=2),
    ]
    before = undressed(pipeline)
    alone = [render(pipeline, each, ink, oil) for each in images]
    together = finish([start(pipeline, each, ink, oil) for each in images])
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)
    assert len({picture.tobytes() for picture in alone}) == len(images)
    render(pipeline, image(prompt="something that was not encoded before"))
    after = [part.state_dict() for part in parts_of(pipeline)]
    assert_same(before, after)


def test_lanes_of_equal_loras_share_forwards_and_others_do_not(pipeline: Pipeline, tmp_path: Path) -> None:
    reference = write(tmp_path, kohya(parts_of(pipeline)[0], "lora_unet_", *ATTENTION))
    images = [wearing(Lora(name="ink", weight=weight), number=n) for n, weight in enumerate((1.0, 1.0, 0.5), start=1)]
    lanes = [start(pipeline, each, reference) for each in (*images, image(4))]
    assert pick(lanes) == lanes[:2]
    assert pick(lanes[2:]) == [lanes[2]]


def test_what_was_worn_before_is_put_on_again_to_the_bit(pipeline: Pipeline, tmp_path: Path) -> None:
    unet = parts_of(pipeline)[0]
    references = [write(tmp_path, kohya(unet, "lora_unet_", alpha=alpha), f"n{alpha:.0f}") for alpha in (1.0, 2.0, 3.0)]
    before, states = undressed(pipeline), {}
    for number in (0, 1, 0, 2, 1, 0, 2):
        lane = start(pipeline, wearing(Lora(name=references[number].name)), *references)
        pipeline.wardrobe.dress_denoiser(lane.outfit)
        state = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
        assert_same([states.setdefault(number, state)], [state])
    assert not torch.equal(
        states[0]["mid_block.attentions.0.proj_in.weight"], states[1]["mid_block.attentions.0.proj_in.weight"]
    )
    assert_same(before, undressed(pipeline))


def test_a_streamed_model_wears_them_on_the_way_from_the_disk(
    pipeline: Pipeline, model: ModelRef, tmp_path: Path
) -> None:
    unet, encoder = parts_of(pipeline)
    reference = write(tmp_path, kohya(unet, "lora_unet_") | kohya(encoder, "lora_te_"))
    streamed = load_pipeline(model, torch.device("cpu"), "float32", cores=2, streamed=Streamed.ALL)
    wanted = wearing(Lora(name="ink", weight=0.5), steps=2)
    assert difference(render(streamed, wanted, reference), render(pipeline, wanted, reference)) <= 1
    assert difference(render(streamed, image(steps=2)), render(pipeline, image(steps=2))) <= 1


def test_a_change_that_fails_leaves_the_model_as_it_was(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = write(tmp_path, kohya(parts_of(pipeline)[0], "lora_unet_", *ATTENTION))
    before = undressed(pipeline)
    lane = start(pipeline, wearing(Lora(name="ink")), reference)
    *_, fitted = pipeline.wardrobe._fitted.values()
    *_, [last] = fitted.patches["unet"].changes.values()
    monkeypatch.setitem(last.leaves, "up", torch.zeros(3, 3))
    with pytest.raises(RuntimeError):
        denoise_step([lane])
    assert_same(before, [part.state_dict() for part in parts_of(pipeline)])
    monkeypatch.undo()
    assert np.array_equal(finish([lane])[0], render(pipeline, wearing(Lora(name="ink")), reference))


def test_a_file_that_takes_the_place_of_another_is_read(pipeline: Pipeline, tmp_path: Path) -> None:
    unet = parts_of(pipeline)[0]
    first = render(pipeline, wearing(Lora(name="ink")), write(tmp_path, kohya(unet, "lora_unet_", *ATTENTION)))
    (tmp_path / "ink.safetensors").unlink()
    other = write(tmp_path, kohya(unet, "lora_unet_", *ATTENTION, alpha=1.0))
    assert not np.array_equal(first, render(pipeline, wearing(Lora(name="ink")), other))


# What does not fit


def test_layers_that_fit_nothing_are_told_with_the_picture(pipeline: Pipeline, tmp_path: Path) -> None:
    unet = parts_of(pipeline)[0]
    state = kohya(unet, "lora_unet_", *ATTENTION)
    for stem in ("lora_unet_up_blocks_3_attentions_0_proj_in", "lora_unet_up_blocks_3_attentions_1_proj_in"):
        down, up = factors(nn.Linear(32, 32), 0)
        state |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
    lane = start(pipeline, wearing(Lora(name="ink")), write(tmp_path, state))
    [warning] = lane.warnings
    assert warning == (
        f'lora "ink": 2 of {len(state) // 3} layers fit nothing in this model, for instance '
        "lora_unet_up_blocks_3_attentions_0_proj_in"
    )


def test_a_lora_of_other_sizes_is_an_error_before_any_step(xl: Pipeline, pipeline: Pipeline, tmp_path: Path) -> None:
    reference = write(tmp_path, kohya(parts_of(pipeline)[0], "lora_unet_", "attn2.to_k"))
    with pytest.raises(RenderError, match=r'"ink" does not fit model "tiny-xl": .*attn2_to_k.* 64×32, and .* 64×80'):
        start(xl, wearing(Lora(name="ink")), reference)


def test_a_lora_of_nothing_in_the_model_is_an_error_before_any_step(pipeline: Pipeline, tmp_path: Path) -> None:
    down, up = factors(nn.Linear(32, 32), 0)
    state = {"lora_unet_double_blocks_0_img_mlp_0.lora_down.weight": down}
    state["lora_unet_double_blocks_0_img_mlp_0.lora_up.weight"] = up
    with pytest.raises(RenderError, match=r"none of its 1 layers .*double_blocks_0_img_mlp_0.* for sd-1 models"):
        start(pipeline, wearing(Lora(name="ink")), write(tmp_path, state))


@pytest.mark.parametrize(
    ("leaf", "tensor", "told"),
    [
        ("alpha", torch.ones(4), r"mlp_fc1\.alpha is not one number, but 4"),
        ("alpha", torch.zeros(0), r"mlp_fc1\.alpha is empty"),
        ("lora_up.weight", torch.full((64, 4), float("nan")), r"mlp_fc1\.lora_up\.weight holds values that are no num"),
        ("lora_up.weight", torch.tensor(1.0), r"mlp_fc1\.lora_up\.weight is no matrix"),
        ("lora_up.weight", None, r"changes nothing: each of its 1 layers lacks a part"),
    ],
)
def test_a_lora_that_makes_no_sense_is_an_error_before_any_step(
    pipeline: Pipeline, tmp_path: Path, leaf: str, tensor: torch.Tensor | None, told: str
) -> None:
    stem = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    sound = {"lora_down.weight": torch.zeros(4, 32), "lora_up.weight": torch.zeros(64, 4), "alpha": torch.tensor(4.0)}
    state = {f"{stem}.{word}": each for word, each in {**sound, leaf: tensor}.items() if each is not None}
    with pytest.raises(RenderError, match=f'The LoRA "ink" .*{told}'):
        start(pipeline, wearing(Lora(name="ink")), write(tmp_path, state))


def test_a_file_that_is_gone_or_no_lora_is_an_error_of_its_image(pipeline: Pipeline, tmp_path: Path) -> None:
    reference = write(tmp_path, {"conv.weight": torch.zeros(2, 2)})
    with pytest.raises(RenderError, match=r'LoRA "ink" cannot be used: .* no layer of a LoRA'):
        start(pipeline, wearing(Lora(name="ink")), reference)
    Path(reference.path).unlink()
    with pytest.raises(RenderError, match=r'LoRA "ink" cannot be read: .*No such file'):
        start(pipeline, wearing(Lora(name="ink")), reference)
