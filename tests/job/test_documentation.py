"""docs/jobs.md is true: its jobs are jobs, its messages are the messages, its tables are the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from invokeai_daemon.daemon.outcomes import explained
from invokeai_daemon.errors import JobError
from invokeai_daemon.job.commands import jobs_of_text
from invokeai_daemon.job.names import FIELDS
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.job.processors import PROCESSORS
from invokeai_daemon.job.schedulers import ALIASES, BY_NAME, SCHEDULERS, canonical
from invokeai_daemon.job.schema import Job

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("text", blocks("toml"))
def test_every_job_of_the_page_is_valid(text: str) -> None:
    assert parse_job(text.encode(), "docs/jobs.md").prompt == "a red circle on a blue background"


def test_every_key_is_described() -> None:
    described = set(
        re.findall(r"`\[*([a-z0-9_]+)\]*`", "".join(re.findall(r"^\| (.*?) \|", section("Keys"), re.MULTILINE)))
    )
    assert described == set(Job.model_fields) - {"own"}


def test_the_messages_of_the_page_are_the_messages() -> None:
    text = 'prompt = "a cat"\nwidth = 770\nscheduler = "k_eular"\nnegative = "dog"\nstrength = 0.5\n'
    with pytest.raises(JobError) as caught:
        parse_job(text.encode(), "inbox/cat.toml")
    assert explained("inbox/cat.toml", caught.value) == blocks("text")[0].strip()


def test_the_list_of_prompts_becomes_its_jobs() -> None:
    jobs = [parse_job(raw, "f") for raw in jobs_of_text(blocks("text")[1].encode(), "list.txt")]
    assert [job.prompt for job in jobs] == [
        "waterfall and rainbow",
        "a lighthouse at dusk",
        "a prompt -with dashes",
        "a cat",
    ]
    assert (jobs[1].negative_prompt, jobs[1].iterations, jobs[3].model) == ("blurry, dark", 4, "another-model")


def test_every_scheduler_has_its_row_with_its_other_names() -> None:
    table = [line for line in section("Schedulers").split("\n") if line.startswith("| `")]
    rows = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in table]
    listed = [name for names, _, _ in rows for name in re.findall(r"`(\w+)`", names)]
    assert tuple(listed) == SCHEDULERS
    for names, old, a1111 in rows:
        first = names.split("`")[1]
        assert BY_NAME[first].a1111 == a1111
        assert all(canonical(name) == first for name in re.findall(r"`(\w+)`", old))
    assert {name for _, old, _ in rows for name in re.findall(r"`(\w+)`", old)} >= set(ALIASES)


def test_every_field_of_a_file_name_is_named() -> None:
    assert set(re.findall(r"`\{(\w+)\}`", section("Results"))) == set(FIELDS)


def test_every_processor_is_described_with_its_options() -> None:
    rows = [line for line in section("Control").split("\n") if line.startswith("| `")]
    described = {row.split("`")[1]: set(re.findall(r"`(\w+) = ", row)) for row in rows}
    assert {each.name: set(each.options) for each in PROCESSORS}.items() <= described.items()
