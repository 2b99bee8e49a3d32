"""docs/features.md is true: each number once, what it names exists, and what is not yet there is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import BaseModel

from invokeai_daemon.cli.commands import cli
from invokeai_daemon.job.commands import SWITCHES
from invokeai_daemon.job.schema import Job
from invokeai_daemon.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "features.md").read_text()
STATES = ("yes", "partly", "not yet", "left out")
GROUPS = {"A": 40, "B": 61, "C": 82, "D": 99, "E": 112, "F": 150, "G": 178, "H": 197, "I": 213}


@dataclass(frozen=True)
class Row:
    """One feature."""

    number: int
    group: str
    state: str
    #: Keys of a job, dotted within tables.
    keys: tuple[str, ...]
    #: Settings, commands and switches.
    means: tuple[str, ...]
    note: str


def words(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def rows() -> list[Row]:
    found = []
    for section in PAGE.split("\n## ")[1:]:
        for line in re.findall(r"^\| (\d+ \|.*) \|$", section, re.MULTILINE):
            number, _, state, keys, means, note = (cell.strip() for cell in f"{line} ".split("|"))
            found.append(Row(int(number), section[0], state, words(keys), words(means), note))
    return found


ROWS = rows()


def fields_of(annotation: Any) -> dict[str, Any]:
    """The keys of a table, or of the tables of a list, by their names in a file."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
    return {key: value for part in get_args(annotation) for key, value in fields_of(part).items()}


def is_key(path: str, table: Any) -> bool:
    """Whether a dotted path leads to a field."""
    key, _, rest = path.partition(".")
    fields = fields_of(table)
    return key in fields and (not rest or is_key(rest, fields[key]))


def is_command(said: list[str], command: click.Command) -> bool:
    """Whether words are a command, and its options if it has some behind it."""
    if said and not said[0].startswith("-") and isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), said[0])
        return inner is not None and is_command(said[1:], inner)
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return not isinstance(command, click.Group) and set(said) <= options


def exists(means: str) -> bool:
    """Whether the program has this setting, command or switch."""
    if means.startswith("-"):
        return any(means in switch.names for switch in SWITCHES)
    return is_key(means, Settings) or is_command(means.split(), cli)


def test_every_number_stands_there_once_in_its_group() -> None:
    assert [row.number for row in ROWS] == list(range(1, 214))
    assert all(row.group == next(name for name, last in GROUPS.items() if row.number <= last) for row in ROWS)


def test_every_feature_has_a_state_and_what_is_missing_has_a_reason() -> None:
    assert [row for row in ROWS if row.state not in STATES] == []
    assert [row for row in ROWS if row.state in ("partly", "left out") and not row.note] == []


def test_every_key_that_is_named_can_be_asked_for() -> None:
    keys = {key for row in ROWS if row.state in ("yes", "partly") for key in row.keys}
    assert sorted(key for key in keys if not is_key(key, Job)) == []


def test_every_key_that_is_not_yet_there_is_refused() -> None:
    keys = {key for row in ROWS if row.state == "not yet" for key in row.keys}
    assert "upscale" in keys
    assert sorted(key for key in keys if is_key(key, Job)) == []


def test_no_key_of_a_job_is_forgotten() -> None:
    named = {key.split(".")[0] for row in ROWS for key in row.keys}
    assert set(fields_of(Job)) - named == {"kind", "meta", "own", "resolved"}


def test_every_setting_command_and_switch_that_is_named_exists() -> None:
    assert sorted({means for row in ROWS for means in row.means if not exists(means)}) == []
    assert not exists("models fly") and not exists("render.devise") and not exists("submit --teleport")


def test_every_place_that_the_pages_point_to_is_there() -> None:
    jobs = (DOCS / "jobs.md").read_text()
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", jobs, re.MULTILINE)}
    pointed = re.findall(r"\]\(#([a-z-]+)\)", jobs) + re.findall(r"jobs\.md#([a-z-]+)\)", PAGE)
    assert len(pointed) > 20
    assert set(pointed) <= headings
