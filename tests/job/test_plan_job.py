"""Plans: who decides a value, how seeds are counted, and the law that job.toml gives the plan back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import JobError
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.plan import ModelRef, Plan
from invokeai_daemon.job.plan_job import from_resolved, model_name, resolve, to_toml
from invokeai_daemon.job.schema import Hires, Job
from invokeai_daemon.settings import LimitSettings
from invokeai_daemon.strict_toml import dump_toml
from tests.job.strategies import job_keys, jobs, own_keys, plans, seeds

MODEL = ModelRef("demo", "/models/demo", "sd-1", hash="blake3:00")


def no_draw() -> int:
    raise AssertionError("a seed was drawn although one was named")


ARGUMENTS: dict[str, Any] = {
    "model_defaults": {},
    "settings_defaults": {},
    "draw_seed": lambda: 7,
    "file_name": "{number:04}.{seed}.png",
    "limits": LimitSettings(),
}


def planned(job: Job, **changes: Any) -> Plan:
    return resolve(job, "cat", MODEL, **{**ARGUMENTS, **changes})


def test_the_base_decides_what_nobody_else_does() -> None:
    image = planned(Job(prompt="a cat")).images[0]
    assert (image.width, image.height, image.steps, image.cfg_scale, image.scheduler) == (512, 512, 30, 7.5, "euler")


@pytest.mark.parametrize(
    ("base", "predicts", "side"),
    [
        ("sd-1", "v_prediction", 512),
        ("sd-2", "epsilon", 512),
        ("sd-2", "v_prediction", 768),
        ("sd-2", None, 512),
        ("sdxl", "v_prediction", 1024),
    ],
)
def test_a_picture_is_as_large_as_those_the_model_was_trained_with(base: str, predicts: str | None, side: int) -> None:
    model = replace(MODEL, base=base, prediction_type=predicts)
    image = resolve(Job(prompt="a cat"), "cat", model, **ARGUMENTS).images[0]
    assert (image.width, image.height) == (side, side)


@pytest.mark.parametrize(
    ("base", "variant", "expected"),
    [
        ("sd-3", "medium", (1024, 28, 4.5, None)),
        ("sd-3", "large", (1024, 28, 3.5, None)),
        ("flux", "dev", (1024, 28, 1.0, 3.5)),
        ("flux", "schnell", (1024, 4, 1.0, None)),
        ("flux", "dev_fill", (1024, 28, 1.0, 30.0)),
    ],
)
def test_a_picture_is_made_and_guided_as_is_usual_for_its_model(base: str, variant: str, expected: Any) -> None:
    model = replace(MODEL, base=base, variant=variant, prediction_type="flow")
    image = resolve(Job(prompt="a cat"), "cat", model, **ARGUMENTS).images[0]
    assert (image.width, image.steps, image.cfg_scale, image.guidance) == expected
    assert from_resolved(to_toml(Plan("cat", model, (image,))).encode(), "job.toml").images == (image,)


def test_defaults_that_a_model_cannot_heed_are_left_out_and_what_a_job_says_is_not() -> None:
    defaults = {**ARGUMENTS, "settings_defaults": {"scheduler": "dpmpp_2m_k", "guidance": 4.0}}
    schnell = replace(MODEL, base="flux", variant="schnell")
    image = resolve(Job(prompt="a cat"), "cat", schnell, **defaults).images[0]
    assert (image.scheduler, image.guidance) == ("euler", None)
    asked = resolve(Job(prompt="a cat"), "cat", MODEL, **defaults).images[0]
    assert (asked.scheduler, asked.guidance) == ("dpmpp_2m_k", None)
    told = resolve(Job(prompt="a cat"), "cat", replace(schnell, variant="dev"), **defaults).images[0]
    assert told.guidance == 4.0


def test_the_job_wins_over_the_model_and_the_model_over_the_settings() -> None:
    plan = planned(
        Job(prompt="a cat", steps=3),
        model_defaults={"steps": 4, "width": 64, "vae": "x", "cfg_scale": None},
        settings_defaults={"steps": 5, "width": 128, "cfg_scale": 2.0, "priority": 9, "negative_prompt": "blurry"},
    )
    image = plan.images[0]
    assert (image.steps, image.width, image.cfg_scale, image.negative_prompt) == (3, 64, 2.0, "blurry")
    assert plan.priority == 9


def test_an_empty_negative_prompt_is_asked_for_not_absent() -> None:
    plan = planned(Job(prompt="a cat", negative_prompt=""), settings_defaults={"negative_prompt": "blurry"})
    assert plan.images[0].negative_prompt == ""


def test_the_settings_name_the_model_when_the_job_does_not() -> None:
    assert model_name(Job(prompt="", model="a"), {"model": "b"}) == "a"
    assert model_name(Job(prompt=""), {"model": "b"}) == "b"
    assert model_name(Job(prompt=""), {}) is None


def test_a_models_impossible_default_names_the_model() -> None:
    with pytest.raises(JobError, match="the default settings of model demo: width: 770 is not a multiple of 8"):
        planned(Job(prompt=""), model_defaults={"width": 770})


def test_seeds_count_up_and_start_again_at_two_to_the_32() -> None:
    plan = planned(Job(prompt="", seed=2**32 - 2, iterations=4), draw_seed=no_draw)
    assert [image.seed for image in plan.images] == [2**32 - 2, 2**32 - 1, 0, 1]
    assert [image.number for image in plan.images] == [1, 2, 3, 4]


def test_a_seed_is_drawn_once_when_none_is_named() -> None:
    drawn = iter([11, 99])
    plan = planned(Job(prompt="", iterations=3), draw_seed=lambda: next(drawn))
    assert [image.seed for image in plan.images] == [11, 12, 13]


def test_listed_seeds_are_taken_as_they_are() -> None:
    plan = planned(Job(prompt="", seeds=[5, 3, 5]), draw_seed=no_draw, settings_defaults={"seed": 1, "iterations": 9})
    assert [image.seed for image in plan.images] == [5, 3, 5]


def test_images_of_a_variation_amount_share_a_seed_and_each_has_another_mixed_in() -> None:
    drawn = iter([7, 100])
    asked = Job(prompt="", iterations=3, variation={"amount": 0.2, "with": [[5, 0.5]]})  # type: ignore[arg-type]
    plan = planned(asked, draw_seed=lambda: next(drawn))
    assert [image.seed for image in plan.images] == [7, 7, 7]
    assert [image.variations for image in plan.images] == [((5, 0.5), (other, 0.2)) for other in (100, 101, 102)]
    text = to_toml(plan)
    assert "[variation]\namount = 0.2\nseed = 100\nwith = [[5, 0.5]]" in text


def test_a_mixture_without_an_amount_counts_seeds_as_ever() -> None:
    plan = planned(Job(prompt="", seed=7, iterations=2, variation={"with": [[5, 0.5]]}), draw_seed=no_draw)  # type: ignore[arg-type]
    assert [(image.seed, image.variations) for image in plan.images] == [(7, ((5, 0.5),)), (8, ((5, 0.5),))]


def test_a_run_that_ends_before_it_begins_is_refused() -> None:
    job = parse_job(b'prompt = ""\ndenoising_start = 0.8', "f")
    with pytest.raises(JobError, match=r"line 2: denoising_start: the run would begin at 0\.8 and end at 0\.5"):
        planned(job, settings_defaults={"denoising_end": 0.5})


@pytest.mark.parametrize(
    ("text", "limits", "told"),
    [
        ("width = 4096\nheight = 4104", LimitSettings(), "line 2: width: 4096 × 4104 is 16809984 pixels; the limit is"),
        (
            "[hires]\nsize = 8192",
            LimitSettings(),
            "line 3: hires.size: the first pass of 8192 × 8192 is 67108864 pixels",
        ),
        (
            '[init]\nimage = "a.png"\n[mask]\nwidth = 8192\nheight = 8192',
            LimitSettings(),
            "line 5: mask.width: 8192 × 8192 is 67108864 pixels",
        ),
        ("iterations = 3", LimitSettings(max_images=2), "line 2: iterations: 3 images; the limit is 2."),
        ("seeds = [1, 2, 3]", LimitSettings(max_images=2), "line 2: seeds: 3 images; the limit is 2."),
    ],
)
def test_a_job_beyond_the_limits_names_the_line_and_the_setting(text: str, limits: LimitSettings, told: str) -> None:
    job = parse_job(f'prompt = ""\n{text}'.encode(), "inbox/big.toml")
    with pytest.raises(JobError) as caught:
        planned(job, limits=limits)
    assert str(caught.value).startswith(f"inbox/big.toml: {told}")
    assert "under [limits] in configs/daemon.toml" in str(caught.value)


@given(jobs, own_keys, seeds, st.fixed_dictionaries({}, optional={key: job_keys[key] for key in ("steps", "width")}))
@settings(deadline=None, max_examples=150)
def test_a_job_its_plan_and_its_job_toml_say_the_same(
    asked: dict[str, Any], own: dict[str, Any], drawn: int, defaults: dict[str, Any]
) -> None:
    job = parse_job(dump_toml({**asked, **own}).encode(), "f")
    plan = planned(job, draw_seed=lambda: drawn, settings_defaults=defaults)
    written = to_toml(plan).encode()
    # The daemon reads its own plan back after a restart …
    assert from_resolved(written, "job.toml") == plan
    # … and a user who drops job.toml again gets the same pictures, whatever the defaults are by then.
    again = planned(parse_job(written, "job.toml"), draw_seed=no_draw, settings_defaults={"steps": 999, "seed": 1})
    assert (again.images, again.priority, again.meta) == (plan.images, plan.priority, plan.meta)


@given(plans())
@settings(deadline=None, max_examples=150)
def test_every_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    assert from_resolved(to_toml(plan).encode(), "job.toml") == plan
    assert Plan.from_json(plan.as_json()) == plan


def test_a_job_that_was_never_planned_is_no_resolved_job() -> None:
    with pytest.raises(JobError, match=r"no resolved job: it has no \[resolved\] table"):
        from_resolved(b'prompt = "a cat"', "job.toml")


def test_a_plan_is_read_back_although_the_limits_have_shrunk_since() -> None:
    plan = planned(Job(prompt="", width=8192, height=8192, seed=1), limits=LimitSettings(max_pixels=2**30))
    assert from_resolved(to_toml(plan).encode(), "job.toml") == plan


def test_a_large_picture_is_begun_in_the_area_of_the_models_own() -> None:
    job, size = Job(prompt="", hires=Hires()), {"width": 96, "height": 64}
    assert planned(job, model_defaults=size).images[0].hires == Hires(size=72)
    assert planned(Job(prompt="", hires=Hires(size=640)), model_defaults=size).images[0].hires == Hires(size=640)
    assert planned(job).images[0].hires == Hires()
    assert planned(job, model_defaults={"width": 96}).images[0].hires == Hires()
