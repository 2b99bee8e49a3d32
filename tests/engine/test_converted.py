"""Single files of every family that can be rendered: converted as the importer does, they give diffusers' pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.denoisers import packed
from invokeai_daemon.engine.loading.pipeline import load_pipeline
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.convert import ConvertOptions, convert_model
from invokeai_daemon.models.entries.entry import RENDERABLE
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.engine.build import image
from tests.engine.build_flow import new_words
from tests.engine.conftest import difference, load_plainly, render_plainly, start_lanes
from tests.engine.plain_flow import Flow
from tests.models.convert import models
from tests.models.convert.models import MODELS, Small
from tests.models.convert.test_flow import SMALL

CPU = torch.device("cpu")
#: Those that paint into pictures differ in one layer, and need a picture; tests/engine/test_inpaint.py has some.
ORDINARY = [
    name for name, small in MODELS.items() if small.identity.base in RENDERABLE and small.identity.variant == "normal"
]
#: Fill renders in tests/engine/test_flux.py: how its masks are packed goes with a VAE of eight pixels to a latent.
FLOWS = [name for name in SMALL if "Fill" not in name]


def converted(small: Small, folder: Path, **parts: Path) -> ModelRef:
    identity, root = small.identity, Root(folder / "root")
    root.make()
    source = models.write(folder / "small.safetensors", small.tensors())
    path = convert_model(read_header(source), identity, root, "small", options=ConvertOptions(parts=parts))
    return ModelRef(
        "small", str(path), identity.base, variant=identity.variant, prediction_type=identity.prediction_type
    )


def test_the_small_models_are_of_every_base_that_can_be_rendered() -> None:
    bases = {small.identity.base for small in [*(MODELS[name] for name in ORDINARY), *SMALL.values()]}
    assert bases == set(RENDERABLE)


@pytest.mark.parametrize("name", ORDINARY)
def test_a_converted_model_gives_the_picture_of_diffusers(name: str, tmp_path: Path) -> None:
    model = converted(MODELS[name], tmp_path)
    ours, plain = load_pipeline(model, CPU, "float32", cores=2), load_plainly(model)
    wanted = image(scheduler="dpmpp_2m_k", negative_prompt="blurred")
    [lane] = start_lanes(ours, [wanted])
    while not lane.is_done:
        assert not denoise_step([lane])
    # The latents first: the decoders of such small models show little of them.
    latents = torch.from_numpy(render_plainly(plain, wanted, output_type="latent"))
    assert latents.std() > 0.5
    assert torch.allclose(lane.latents[0], latents, atol=1e-3)
    expected = render_plainly(plain, wanted)
    assert expected.std() > 2, "the picture must show something for the comparison to say anything"
    assert difference(decode([lane])[0].pixels, expected) <= 1


@pytest.mark.parametrize("name", FLOWS)
def test_a_converted_model_that_follows_a_flow_gives_the_picture_of_diffusers(name: str, tmp_path: Path) -> None:
    small, words = SMALL[name], tmp_path / "words"
    new_words().save_pretrained(words)
    flow = Flow(
        converted(small, tmp_path, **{"tokenizer_3" if small.identity.base == "sd-3" else "tokenizer_2": words})
    )
    wanted = image(cfg_scale=3.0, guidance=3.5, negative_prompt="blurred", prompt="a red circle on a blue background")
    [lane] = start_lanes(flow.ours, [wanted])
    while not lane.is_done:
        assert not denoise_step([lane])
    ours = lane.latents
    if small.identity.base == "flux":
        ours = packed(ours)
    latents = torch.from_numpy(flow.render(wanted, output_type="latent"))
    assert latents.std() > 0.5
    assert torch.allclose(ours[0], latents, atol=1e-3)
    assert difference(decode([lane])[0].pixels, flow.render(wanted)) <= 1
