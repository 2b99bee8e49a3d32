"""2.3 prompt commands: lines of InvokeAI's own manual and users' files mean what they meant there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import JobError
from invokeai_daemon.job.commands import SWITCHES, jobs_of_text, parse_command, to_command, unsaid
from invokeai_daemon.job.commands.switches import axes, masked_text, pairs, picture, sides
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.plan import USUAL
from invokeai_daemon.job.prompt.legacy import split_negative
from invokeai_daemon.job.schedulers import canonical
from tests.job.strategies import between, job_keys, paths, tables_of_jobs
from tests.strict_toml.values import texts


def read(line: str) -> dict[str, Any]:
    job, problems = parse_command(line)
    assert problems == []
    return job


def problems_of(line: str) -> list[str]:
    return [str(problem) for problem in parse_command(line)[1]]


@pytest.mark.parametrize(
    ("line", "job"),
    [
        (
            "waterfall and rainbow -W640 -H480 -S42",
            {"prompt": "waterfall and rainbow", "width": 640, "height": 480, "seed": 42},
        ),
        ("a cat", {"prompt": "a cat"}),
        ("a well-lit cat - really -s 5", {"prompt": "a well-lit cat - really", "steps": 5}),
        ('"a cat" -s5 -C 7.5', {"prompt": "a cat", "steps": 5, "cfg_scale": 7.5}),
        ('"big" cats -n 3', {"prompt": '"big" cats', "iterations": 3}),
        ('"a \\"big\\" cat -s 5"', {"prompt": 'a "big" cat -s 5'}),
        ('"a \\(cat\\)" -s 5', {"prompt": "a \\(cat\\)", "steps": 5}),
        ('--prompt "a cat" --steps=5 -A k_euler_a', {"prompt": "a cat", "steps": 5, "scheduler": "k_euler_a"}),
        ("!dream a cat -m ddim", {"prompt": "a cat", "scheduler": "ddim"}),
        ("a cat [dim, dark] on a mat [grey]", {"prompt": "a cat on a mat", "negative_prompt": "dim, dark grey"}),
        ("a cat -W 650", {"prompt": "a cat", "width": 648}),
        ("a cat --inpaint_replace 0.0 -G 0 -t -z 9 --karras_max 29", {"prompt": "a cat", "log_tokenization": True}),
        ("a cat:0.5 a dog -x", {"prompt": '("a cat", "a dog").blend(0.5, 1.0, no_normalize)'}),
        ("a cat: really -x", {"prompt": "a cat: really"}),
        (
            "a cat --perlin 0 --threshold 2.5 --h_symmetry_time_pct=0.3 --save_intermediates 5",
            {"prompt": "a cat", "perlin": 0.0, "threshold": 2.5, "h_symmetry_time_pct": 0.3, "save_intermediates": 5},
        ),
        ("a cat -S 7 -v0.2", {"prompt": "a cat", "seed": 7, "variation": {"amount": 0.2}}),
        (
            "a cat -S 7 -V 42:0.3,43:0.1 -v 0.2",
            {"prompt": "a cat", "seed": 7, "variation": {"with": [[42, 0.3], [43, 0.1]], "amount": 0.2}},
        ),
        ("a cat --seamless", {"prompt": "a cat", "seamless_x": True, "seamless_y": True}),
        ("a cat --seamless_axes x --seamless", {"prompt": "a cat", "seamless_x": True, "seamless_y": False}),
        ("a cat --seamless_axes x,y", {"prompt": "a cat"}),
        (
            "a cat -I photo.png -f0.5 --fit --init_color sea.png",
            {"prompt": "a cat", "init": {"image": "photo.png", "strength": 0.5, "fit": True}, "init_color": "sea.png"},
        ),
        (
            "a cat -I 'my photo.png' -M mask.png --invert_mask --seam_size 8 --tile_size 64",
            {
                "prompt": "a cat",
                "init": {"image": "my photo.png", "fit": False},
                "mask": {"image": "mask.png", "invert": True},
                "seam": {"size": 8, "blur": 0, "strength": 0.7, "steps": 10},
                "infill": {"tile_size": 64},
            },
        ),
        (
            "a cat -I photo.png -tm hair 0.4 --seam_size 0",
            {
                "prompt": "a cat",
                "init": {"image": "photo.png", "fit": False},
                "mask": {"text": "hair", "threshold": 0.4},
            },
        ),
        (
            "a cat -I photo.png -c top 64 left 100 --seam_blur 8",
            {
                "prompt": "a cat",
                "init": {"image": "photo.png", "strength": 0.9, "fit": False},
                "outpaint": {"top": 64, "left": 128},
                "seam": {"size": 96, "blur": 8, "strength": 0.7, "steps": 20},
            },
        ),
        (
            "a cat -I photo.png --force_outpaint",
            {"prompt": "a cat", "init": {"image": "photo.png", "fit": False}, "mask": {}},
        ),
        ("a cat --hires_fix -f 0.6", {"prompt": "a cat", "hires": {"strength": 0.6}}),
        ("a cat -f 0.6 --fit", {"prompt": "a cat"}),
        (
            "a lighthouse at dusk [blurry] -s 30 -S 3357757885 -W 512 -H 512 -C 7.5 -A k_euler_a"
            " # model_id=stable-diffusion-1.5",
            {
                "prompt": "a lighthouse at dusk",
                "negative_prompt": "blurry",
                "steps": 30,
                "seed": 3357757885,
                "width": 512,
                "height": 512,
                "cfg_scale": 7.5,
                "scheduler": "k_euler_a",
                "model": "stable-diffusion-1.5",
            },
        ),
    ],
)
def test_a_command_of_2_3_is_understood(line: str, job: dict[str, Any]) -> None:
    assert read(line) == job


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "a cat -I -1 -tm hair dark -c up 64",
            [
                '-I: "-1" is not the path of a picture; a job does not know earlier results.',
                '-tm: "hair dark" is not words and a number, like hair 0.5.',
                '-c: "up 64" is not a list of sides and pixels, like top 64 left 128.',
            ],
        ),
        (
            "a cat -D top",
            ["-D: asks for shifting a picture, where --outcrop extends it: not supported yet. Remove the switch."],
        ),
        ("a cat --hires_fix -I a.png", ["-I: 2.3 passes over an init image beside --hires_fix. Keep one of them."]),
        ("a cat -r 0.5", ["-r: asks for inpaint_replace: not supported yet. Remove the switch."]),
        ("a cat -G0.8 -ft codeformer", ["-G0.8: asks for face restoration: not supported yet. Remove the switch."]),
        ("a cat -V 1:0.5,2", ['-V: "1:0.5,2" is not a list like 42:0.3,43:0.1.']),
        ("a cat --seamless --seamless_axes z", ['--seamless_axes: "z" is not x, y or x,y.']),
        ("a cat --stepz 5", ["--stepz: There is no such switch. Did you mean --steps?"]),
        ("a cat -s five", ['-s: "five" is not a whole number.']),
        ("a cat -s", ["-s: needs a value."]),
        ("a cat -s 5 dog", ['"dog" belongs to no switch. Prompts come first.']),
        (
            "a cat -S -1",
            ["-S: -1 means the seed of an earlier picture, which a job does not know. Write the seed itself."],
        ),
        ("a cat -s 5 -A 'ddim", ["A quote of the switches does not end. Close it, or put the prompt in quotes."]),
        ("!fix cat.png -G 0.8", ['"!fix cat.png -G 0.8" is not a prompt. Put a prompt that starts with ! in quotes.']),
    ],
)
def test_what_is_not_served_is_named(line: str, told: list[str]) -> None:
    assert problems_of(line) == told


def test_every_switch_of_2_3_is_read_or_named() -> None:
    values_of_kinds: dict[Any, str] = {
        None: "",
        str: " a.png",
        pairs: " 3:0.5",
        axes: " x",
        picture: " a.png",
        masked_text: " a",
        sides: " top 64",
    }
    for switch in SWITCHES:
        for name in switch.names:
            value = values_of_kinds.get(switch.kind, " 3")
            told = problems_of(f"a cat {name}{value}")
            assert bool(told) == bool(switch.what), name
            assert all("no such switch" not in problem for problem in told)


def test_brackets_hold_what_not_to_show() -> None:
    assert split_negative("a  [b] c [d  e]") == ("a c", "b d e")
    assert split_negative("a  c") == ("a  c", None)


def test_a_file_of_commands_becomes_a_job_for_each() -> None:
    text = "# my list\r\n\r\na cat -s 5 -A k_euler\r\n// no\n!switch other\na dog\n  q  \nnever -s 1\n"
    jobs = [parse_job(job, "f") for job in jobs_of_text(text.encode(), "list.txt")]
    assert [(job.prompt, job.model, job.steps, job.scheduler) for job in jobs] == [
        ("a cat", None, 5, "euler"),
        ("a dog", "other", None, "euler"),
    ]


def test_the_mistakes_of_all_lines_come_at_once_with_their_lines() -> None:
    with pytest.raises(JobError) as caught:
        jobs_of_text(b"a cat -s 0\n\na dog -W 8\na cow -U 2\nfine\n", "list.txt")
    assert str(caught.value).split("\n") == [
        "list.txt: line 1: steps: 0 is out of range. Use at least 1 and at most 1000.",
        "list.txt: line 3: width: 8 is out of range. Use at least 64 and at most 32768.",
        "list.txt: line 4: -U: asks for upscaling: not supported yet. Remove the switch.",
    ]


@pytest.mark.parametrize("text", [b"", b"# nothing\n\n", b"q\na cat"])
def test_a_file_without_prompts_says_so(text: bytes) -> None:
    with pytest.raises(JobError, match="There is no prompt in this file"):
        jobs_of_text(text, "list.txt")


def test_a_text_that_is_not_utf8_names_its_line() -> None:
    with pytest.raises(JobError, match="line 2: The text is not UTF-8"):
        jobs_of_text(b"a cat\ncaf\xe9", "list.txt")


_UNWRITTEN = ("priority", "negative_prompt", "prompt_syntax", *tables_of_jobs)
#: Tables as a command says them.
_inits = st.fixed_dictionaries({"image": paths, "strength": between, "fit": st.booleans()})
_words = texts.map(lambda text: " ".join(text.split())).filter(lambda text: text and text[0] != "-")
_masks: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"image": paths}, optional={"invert": st.just(True)}),
    st.fixed_dictionaries({"text": _words, "threshold": between}),
    st.just({}),
)
_seams = st.fixed_dictionaries(
    {"size": st.integers(1, 99), "blur": st.integers(0, 9), "strength": between, "steps": st.integers(1, 9)}
)
_told_of_pictures = {
    "mask": _masks,
    "outpaint": st.dictionaries(st.sampled_from(["top", "left"]), st.integers(1, 4).map(lambda n: n * 64), min_size=1),
    "seam": _seams,
    "infill": st.just({"tile_size": 64}),
    "init_color": paths,
}
_tables: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"hires": st.fixed_dictionaries({"strength": between})}),
    st.fixed_dictionaries({"init": _inits}, optional=_told_of_pictures),
)
written = st.fixed_dictionaries(
    {"prompt": texts | st.text("ab -[]\"\\#!q'=", max_size=15)},
    optional={
        "negative_prompt": texts | st.text('ab -[]"\\#', max_size=10),
        **{key: values for key, values in job_keys.items() if key not in _UNWRITTEN},
    },
)


@given(written, _tables)
@settings(deadline=None, max_examples=200)
def test_a_command_that_was_written_is_read_back(job: dict[str, Any], tables: dict[str, Any]) -> None:
    job = {**job, **tables}
    assert list(unsaid(job)) == []
    seam = {"seam": {"size": 96, "blur": 16, "strength": 0.7, "steps": 30}} if "outpaint" in job else {}
    expected = _said({**seam, **{key: _flat(value) for key, value in job.items()}})
    line = to_command(job)
    assert "\n" not in line
    found = read(line)
    if "scheduler" in found:
        found["scheduler"] = canonical(found["scheduler"])
    assert _said(found) == expected


def test_a_command_has_the_syntax_of_2_3() -> None:
    assert to_command({"prompt": "a (cat:1.2)", "prompt_syntax": "a1111"}) == "a (cat)1.2"
    assert to_command({"prompt": "a (cat)", "negative_prompt": "[x]", "prompt_syntax": "plain"}).startswith(
        "a \\(cat\\)"
    )


def test_what_a_command_cannot_say_is_named() -> None:
    init = {"image": "a.png", "depth": "b.png", "fit": True, "color_match": False}
    job = {"prompt": "", "refiner": {"model": "xl"}, "init": init, "outpaint": {"left": "25%", "top": 0, "right": 70}}
    assert list(unsaid(job)) == ["refiner", "init.depth", "outpaint.left", "outpaint.right"]
    assert list(unsaid({"prompt": "", "loras": [{"name": "ink v2"}], "mask": {"grow": 3}})) == ["loras[0]", "mask.grow"]


def test_a_lora_is_said_in_the_prompt() -> None:
    job = {"prompt": "a cat", "negative_prompt": "dog", "loras": [{"name": "ink", "weight": 0.8}, {"name": "oil"}]}
    assert to_command(job) == "a cat withLora(ink,0.8) withLora(oil) [dog]"
    assert to_command({"prompt": "a cat <lora:ink:0.5>", "prompt_syntax": "a1111"}) == "a cat withLora(ink,0.5)"


def test_a_command_speaks_as_2_3_did() -> None:
    varied = {
        "prompt": "a cat",
        "seed": 1,
        "perlin": 0.1,
        "seamless_y": True,
        "variation": {"with": [[2, 0.5], [3, 0.1]]},
    }
    assert to_command(varied) == "a cat -S 1 --perlin 0.1 --seamless --seamless_axes y -V 2:0.5,3:0.1"
    job = {"prompt": "a cat", "negative_prompt": "dog", "steps": 5, "scheduler": "euler_a", "model": "demo"}
    assert to_command(job) == "a cat [dog] -s 5 -A k_euler_a # model_id=demo"


def _said(job: dict[str, Any]) -> dict[str, Any]:
    """What is not as usual; a command says nothing else."""
    return {key: value for key, value in job.items() if value not in (USUAL.get(key), "")}


def _flat(value: Any) -> Any:
    """A command is one line, so line breaks in prompts become spaces, as 2.3 itself makes them."""
    return re.sub(r"[\r\n]+", " ", value) if isinstance(value, str) else value


@given(st.text(max_size=60) | st.text("ab -[]\"'\\#!=sWI\n", max_size=40))
@settings(deadline=None, max_examples=300)
def test_any_line_is_read_or_named(line: str) -> None:
    job, problems = parse_command(line)
    assert problems or "prompt" in job or not line.strip() or line.strip().startswith(("-", "#"))
