"""Every scheduler gives the pictures of diffusers' own pipeline, also when lanes of all kinds share them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image
from invokeai_daemon.job.schedulers import SCHEDULERS
from tests.engine.build import image
from tests.engine.conftest import Pixels, difference, render, render_plainly


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    return {
        name: image(number, scheduler=name, steps=10, negative_prompt="blurred")
        for number, name in enumerate(SCHEDULERS, start=1)
    }


@pytest.fixture(scope="module")
def ours(pipeline: Pipeline, images: dict[str, Image]) -> dict[str, Pixels]:
    """The pictures of all schedulers, made together: 10 forwards, then 9 for those of second order."""
    return dict(zip(images, render(pipeline, list(images.values())), strict=True))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_gives_the_picture_of_diffusers(
    name: str, plain: Any, images: dict[str, Image], ours: dict[str, Pixels]
) -> None:
    expected = render_plainly(plain, images[name])
    assert expected.std() > 2, "the picture must show something for the comparison to say anything"
    assert difference(ours[name], expected) <= 2


def test_every_name_has_a_scheduler_of_its_own(ours: dict[str, Pixels]) -> None:
    assert len({pixels.tobytes() for pixels in ours.values()}) == len(ours)


def test_a_scheduler_belongs_to_one_lane(pipeline: Pipeline) -> None:
    one, other = pipeline.schedulers.new("dpmpp_2m", 5), pipeline.schedulers.new("dpmpp_2m", 5)
    sample = torch.ones(1, 4, 8, 8)
    one.step(sample, one.timesteps[0], sample)
    assert one.model_outputs[-1] is not None
    assert other.model_outputs[-1] is None


def test_a_name_that_cannot_be_rendered_is_an_error(pipeline: Pipeline) -> None:
    with pytest.raises(RenderError, match='there is no scheduler "fancy"'):
        pipeline.schedulers.new("fancy", 5)


def test_steps_that_a_scheduler_cannot_make_are_an_error(pipeline: Pipeline) -> None:
    with pytest.raises(RenderError, match='scheduler "lcm" cannot make 600 steps'):
        pipeline.schedulers.new("lcm", 600)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_scheduler_manages_few_steps(pipeline: Pipeline, steps: int) -> None:
    pictures = render(pipeline, [image(scheduler=name, steps=steps) for name in SCHEDULERS])
    assert all(picture.shape == (64, 64, 3) for picture in pictures)
