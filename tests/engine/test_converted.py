"""Single files of every family that can be rendered: converted as the importer does, they give diffusers' pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invokeai_daemon.engine.decode import decode
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.pipeline import load_pipeline
from invokeai_daemon.job.plan import ModelRef
from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.entries.entry import RENDERABLE
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.engine.build import image
from tests.engine.conftest import difference, load_plainly, render_plainly, start_lanes
from tests.models.convert import models
from tests.models.convert.models import MODELS

CPU = torch.device("cpu")
ORDINARY = [
    name
    for name, small in MODELS.items()
    if small.identity.base in RENDERABLE and small.identity.variant in RENDERABLE[small.identity.base]
]


def converted(name: str, folder: Path) -> ModelRef:
    identity, root = MODELS[name].identity, Root(folder / "root")
    root.make()
    source = models.write(folder / "small.safetensors", MODELS[name].tensors())
    path = convert_model(read_header(source), identity, root, "small")
    return ModelRef("small", str(path), identity.base, prediction_type=identity.prediction_type)


def test_the_small_models_are_of_every_base_that_can_be_rendered() -> None:
    assert {MODELS[name].identity.base for name in ORDINARY} == set(RENDERABLE)


@pytest.mark.parametrize("name", ORDINARY)
def test_a_converted_model_gives_the_picture_of_diffusers(name: str, tmp_path: Path) -> None:
    model = converted(name, tmp_path)
    ours, plain = load_pipeline(model, CPU, "float32", cores=2), load_plainly(model)
    for scheduler in ("euler", "dpmpp_2m_k"):
        wanted = image(scheduler=scheduler, negative_prompt="blurred")
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
