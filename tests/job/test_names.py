"""File names: the same image gets the same name, different images different ones, on every file system."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import SettingsError
from invokeai_daemon.job.names import FIELDS, check_template, image_name, safe_name
from invokeai_daemon.job.plan import Image, ModelRef, Plan


def named(template: str, model: str = "demo", job_id: str = "cat", number: int = 1) -> str:
    image = Image(number, 42, "a cat", "", 512, 768, 30, 7.5, "euler_a")
    return image_name(Plan(job_id, ModelRef(model, "/m", "sd-1"), (image,), file_name=template), image)


def test_the_template_is_filled() -> None:
    assert named("{number:04}.{seed}.png") == "0001.42.png"
    assert named("{job}_{number}_{model}_{width}x{height}_{steps}_{cfg_scale}_{scheduler}") == (
        "cat_1_demo_512x768_30_7.5_euler_a.png"
    )


def test_a_template_cannot_leave_the_folder() -> None:
    assert named("../../{number}", model="x") == "_.._1.png"
    assert "/" not in named("{model}{number}", model="sd-1/main/../../etc/passwd")


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{nmber}.png", "{nmber} is no field of a file name. Did you mean {number}?"),
        ("{prompt}{number}", "The fields are job, number"),
        ("{seed}.png", "lacks {number}. Without it two images could get one name."),
        ("{number:q}", "is no template"),
        ("{number", "is no template"),
        ("{}", "{} is no field"),
        ("{number.__class__}", "is no field"),
        ("{number!r:>10}{0}", "{0} is no field"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_template(template)
    assert told in str(caught.value)


def test_every_field_works_in_a_template() -> None:
    template = "".join(f"{{{field}}}" for field in FIELDS)
    check_template(template)
    assert named(template).endswith("euler_a.png")


@given(st.text(max_size=300))
@settings(deadline=None, max_examples=300)
def test_any_text_becomes_a_name_that_file_systems_take(text: str) -> None:
    name = safe_name(text)
    assert 1 <= len(name.encode()) <= 200
    assert not set(name) & set('<>:"/\\|?*\0\n')
    assert name[0] not in ".- ~"
    assert name[-1] not in ". "
    assert safe_name(name) == name


def test_long_names_that_differ_at_the_end_stay_different() -> None:
    assert safe_name("é" * 150 + "1") != safe_name("é" * 150 + "2")


def test_names_that_windows_reserves_are_not_used() -> None:
    assert safe_name("con") == "_con"
    assert safe_name("NUL.txt") == "_NUL.txt"
    assert safe_name("console") == "console"


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.text(max_size=400))
@settings(deadline=None, max_examples=200)
def test_two_images_of_a_job_have_two_names(one: int, other: int, model: str) -> None:
    names = {named("{model}.{number}", model=model, number=number) for number in (one, other)}
    assert len(names) == len({one, other})
