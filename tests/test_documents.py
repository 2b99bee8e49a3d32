"""The documents say what is: their examples are valid, their tables complete, the files they name exist."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from invokeai_daemon.cli.commands import COMMANDS
from invokeai_daemon.cli.demo import JOB
from invokeai_daemon.job.parse import parse_job
from invokeai_daemon.settings import Settings

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text()


def settings_keys() -> Iterator[tuple[str, str]]:
    """Dotted key and default, as TOML writes it, of every setting."""
    for name, field in Settings.model_fields.items():
        table = getattr(Settings(), name)
        if isinstance(table, BaseModel):
            for key, value in table:
                yield f"{field.alias or name}.{key}", json.dumps(value)


def test_the_readme_lists_every_setting_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| `([^`]*)` \|", README, re.MULTILINE))
    assert listed == dict(settings_keys())


@pytest.mark.parametrize("text", [*re.findall(r"```toml\n(.*?)```", README, re.DOTALL), JOB])
def test_the_example_jobs_are_valid(text: str) -> None:
    parse_job(text.encode(), "example.toml")


def test_the_readme_names_only_commands_that_exist() -> None:
    assert set(re.findall(r"invokeai-daemon ([a-z]+)", README)) <= COMMANDS.keys()


def test_the_architecture_names_only_files_and_functions_that_exist() -> None:
    package = REPOSITORY / "invokeai_daemon"
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)`", ARCHITECTURE)
    assert len(named) > 20
    assert [name for name in named if not (package / name).is_file()] == []
    source = "\n".join(path.read_text() for path in package.rglob("*.py"))
    functions = re.findall(r"`(?:[A-Z]\w+\.)?([a-z_]+)`", ARCHITECTURE)
    missing = {name for name in functions if f"def {name}(" not in source}
    assert missing <= {"status", "imported", "verdict", "published"}


def test_the_architecture_stays_within_two_pages() -> None:
    assert len(ARCHITECTURE.splitlines()) <= 110


def test_the_constraints_pin_torch_and_torchvision_and_name_no_index() -> None:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert {"torch", "torchvision"} <= {line.partition("==")[0] for line in lines}
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line)] == []


def test_the_constraints_pin_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=]", line)[0].lower().replace("_", "-").replace(".", "-") for line in asked}
    pinned = {line.partition("==")[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    assert names <= pinned
