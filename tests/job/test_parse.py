"""Job files: what is asked comes through, what is wrong is told all at once."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import JobError, SettingsError
from invokeai_daemon.job.parse import parse_defaults, parse_job
from invokeai_daemon.job.schema import Job
from invokeai_daemon.strict_toml import dump_toml
from tests.job.strategies import jobs

BAD_JOB = """promt = "a cat"
width = 770
height = "512"
steps = 0
cfg_scale = nan
scheduler = "k_eular"
seed = 4294967296
iterations = true
sampler = "ddim"
kind = "rendr"
model = ""
priority = 5000
negative_prompt = "a\\u0000b"
x-note = inf
seeds = [1, -2]
meta = 3

[[upscale]]
name = "ink"
"""

TOLD = """\
prompt: is required. Add it: prompt = "a red circle on a blue background"
line 1: promt: There is no such key. Did you mean "prompt"?
line 2: width: 770 is not a multiple of 8. Use 768 or 776.
line 3: height: "512" is not a whole number. Write it without quotes and without a point.
line 4: steps: 0 is out of range. Use at least 1 and at most 1000.
line 5: cfg_scale: nan is not a finite number.
line 6: scheduler: "k_eular" is no scheduler. Did you mean "k_euler"?
line 7: seed: 4294967296 is out of range. Use at least 0 and at most 4294967295.
line 8: iterations: true is not a whole number. Write it without quotes and without a point.
line 9: sampler: There is no such key. Did you mean "scheduler"?
line 10: kind: "rendr" is not known. Did you mean "render"? Use "render".
line 11: model: "" is empty.
line 12: priority: 5000 is out of range. Use at least -1000 and at most 1000.
line 13: negative_prompt: The text holds a NUL character. Remove it.
line 14: x-note: inf is not a finite number. Put it in quotes to keep it as text.
line 15: seeds[1]: -2 is out of range. Use at least 0 and at most 4294967295.
line 16: meta: 3 is not a table.
line 18: upscale: is not supported yet. Remove it."""


def refusal(text: str) -> str:
    with pytest.raises(JobError) as caught:
        parse_job(text.encode(), "inbox/cat.toml")
    return str(caught.value)


def test_every_mistake_of_a_job_is_told_at_once_with_its_line() -> None:
    assert refusal(BAD_JOB).split("\n") == [f"inbox/cat.toml: {problem}" for problem in TOLD.split("\n")]


def test_a_prompt_is_all_that_a_job_needs() -> None:
    job = parse_job(b'prompt = "a cat"', "cat.toml")
    assert job == Job(prompt="a cat")
    assert (job.model, job.width, job.seed) == (None, None, None)


@pytest.mark.parametrize(("size", "hint"), [(65, "Use 64 or 72."), (511, "Use 504 or 512."), (770, "Use 768 or 776.")])
def test_a_size_between_multiples_of_8_names_both_neighbours(size: int, hint: str) -> None:
    assert refusal(f'prompt = ""\nwidth = {size}').endswith(f"{size} is not a multiple of 8. {hint}")


@pytest.mark.parametrize("size", [0, -8, 56, 32776])
def test_a_size_out_of_range_names_the_range(size: int) -> None:
    assert "Use at least 64 and at most 32768." in refusal(f'prompt = ""\nwidth = {size}')


def test_sampler_names_of_2_3_are_taken() -> None:
    assert parse_job(b'prompt = ""\nscheduler = "k_euler_a"', "f").scheduler == "euler_a"


def test_a_whole_number_is_fine_for_cfg_scale_but_not_the_other_way() -> None:
    assert parse_job(b'prompt = ""\ncfg_scale = 7', "f").cfg_scale == 7.0
    assert "steps: 30.0 is not a whole number" in refusal('prompt = ""\nsteps = 30.0')


def test_a_number_with_ten_thousand_digits_is_told_in_few_words() -> None:
    message = refusal('prompt = ""\nseed = 0x' + "f" * 10_000)
    assert "seed: a number with too many digits is out of range." in message
    assert len(message) < 200


def test_the_users_own_keys_are_carried() -> None:
    text = b'prompt = ""\nx-mood = "calm"\nx-when = 2024-05-01\n[meta]\ntags = ["a", {b = 1.5}]\nat = 07:30:00\n'
    assert parse_job(text, "f").carried == {
        "x-mood": "calm",
        "x-when": "2024-05-01",
        "meta": {"tags": ["a", {"b": 1.5}], "at": "07:30:00"},
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[meta]\na = [1, nan]", "line 3: meta.a: nan is not a finite number."),
        ("[meta]\na = {b = 0xffffffffffffffffff}", "line 3: meta.a.b: The number has more than 64 bits."),
        ('x-a = "\\u0000"', "line 2: x-a: The text holds a NUL character."),
    ],
)
def test_own_values_that_results_cannot_carry_are_refused(text: str, problem: str) -> None:
    assert problem in refusal(f'prompt = ""\n{text}')


@pytest.mark.parametrize("extra", ["seed = 1", "iterations = 2"])
def test_seeds_stand_alone(extra: str) -> None:
    assert "line 2: seeds: seeds stands beside seed or iterations." in refusal(f'prompt = ""\nseeds = [1]\n{extra}')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("amount = 1.5", "line 3: variation.amount: 1.5 is out of range. Use at least 0 and at most 1."),
        ("with = [[1, 0.5], [2, 3.0]]", "line 3: variation.with[1][1]: 3.0 is out of range."),
        ("with = [[1]]", "line 3: variation.with[0][1]: "),
        ("seed = 3", "line 2: variation: seed stands without an amount. Add amount, or list it"),
        ("amont = 0.1", 'line 3: variation.amont: There is no such key. Did you mean "amount"?'),
    ],
)
def test_a_variation_that_says_nothing_sensible_is_refused(text: str, problem: str) -> None:
    assert problem in refusal(f'prompt = ""\n[variation]\n{text}')


def test_half_a_utf16_pair_never_becomes_a_prompt() -> None:
    with pytest.raises(ValueError, match="half of a UTF-16 pair"):
        Job(prompt="\ud800")


@given(jobs)
@settings(deadline=None, max_examples=100)
def test_what_is_asked_is_what_is_read(asked: dict[str, object]) -> None:
    read = parse_job(dump_toml(asked).encode(), "f").model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
    )
    assert {"prompt": asked["prompt"], **read} == asked


@given(
    st.dictionaries(
        st.sampled_from(["steps", "width", "cfg_scale", "prompt", "seeds", "meta", "model", "kind"]),
        st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.integers(), max_size=2)
        | st.booleans()
        | st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=150)
def test_values_of_any_type_are_read_or_refused_with_the_file_named(data: dict[str, object]) -> None:
    try:
        text = dump_toml(data)
        parse_job(text.encode(), "cat.toml")
    except JobError as error:
        assert all(line.startswith("cat.toml: ") for line in str(error).split("\n"))
    except ValueError as error:
        assert "cannot be written as TOML" in str(error)


def test_reading_a_job_takes_less_than_a_millisecond() -> None:
    text = b'model = "demo"\nprompt = "a red circle"\nwidth = 64\nheight = 64\nsteps = 4\nseed = 42\niterations = 4\n'
    parse_job(text, "f")
    start = time.thread_time()
    for _ in range(100):
        parse_job(text, "f")
    assert time.thread_time() - start < 0.1


def test_defaults_of_the_settings_are_checked_like_a_job() -> None:
    assert parse_defaults({"steps": 20, "scheduler": "k_lms"}, "daemon.toml") == {"steps": 20, "scheduler": "lms"}
    with pytest.raises(SettingsError) as caught:
        parse_defaults({"stepz": 20, "width": 770}, "daemon.toml")
    assert str(caught.value).split("\n") == [
        "daemon.toml [defaults]: width: 770 is not a multiple of 8. Use 768 or 776.",
        'daemon.toml [defaults]: stepz: There is no such key. Did you mean "steps"?',
    ]
