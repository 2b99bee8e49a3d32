"""init, schema and doctor: a root from nothing, and what the machine lacks."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from invokeai_daemon.cli import doctor
from invokeai_daemon.cli.init import SETTINGS_TEXT
from invokeai_daemon.root import Root, looks_like_root
from invokeai_daemon.settings import Settings, load_settings
from tests.conftest import Program


def test_init_makes_a_root_with_settings_and_schema(program: Program, tmp_path: Path) -> None:
    made = program("init", "pictures")
    assert made.returncode == 0, made.stderr
    root = Root(tmp_path / "pictures")
    assert looks_like_root(root.path)
    assert load_settings(root.settings_file, {}) == Settings()
    assert "prompt" in json.loads((root.configs / "job.schema.json").read_text())["properties"]
    assert (root.configs / "INITIAL_MODELS.yaml").read_text().count("repo_id:") > 14


def test_init_leaves_what_is_there(program: Program, root: Root) -> None:
    root.settings_file.write_text("[render]\n# mine\n")
    (root.inbox / "cat.toml").write_text("")
    assert program("init", root.path).returncode == 0
    assert root.settings_file.read_text() == "[render]\n# mine\n"
    assert (root.inbox / "cat.toml").exists()


def test_the_settings_that_init_writes_are_the_defaults_when_uncommented() -> None:
    shown = tomllib.loads(SETTINGS_TEXT.replace("# device", "device").replace("# precision", "precision"))
    assert shown["render"] == {key: getattr(Settings().render, key) for key in ("device", "precision")}


def test_the_schema_is_printed_or_written(program: Program, tmp_path: Path) -> None:
    printed = program("schema").stdout
    assert program("schema", "--output", "schema.json").returncode == 0
    assert (tmp_path / "schema.json").read_text() == printed
    assert json.loads(printed)["title"]


def test_doctor_finds_a_sound_machine_sound(program: Program, root: Root) -> None:
    told = program("doctor")
    assert told.returncode == 0, told.stdout
    assert "torch" in told.stdout
    assert f"ok        root {root.path}" in told.stdout
    assert "the daemon is not running" in told.stdout


def test_doctor_names_unusable_settings(root: Root) -> None:
    root.settings_file.write_text("[rendering]\n")
    found = list(doctor.settings(root))
    assert [finding.state for finding in found] == ["wrong"]
    assert "rendering" in found[0].what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_doctor_names_folders_that_cannot_be_written(root: Root) -> None:
    root.outputs.chmod(0o500)
    found = list(doctor.folders(root))
    assert found[0].state == "wrong"
    assert str(root.outputs) in found[0].what
    assert found[0].fix.startswith("sudo chown")


def test_doctor_names_folders_that_are_missing(root: Root) -> None:
    root.models.rmdir()
    found = list(doctor.folders(root))
    assert [finding.state for finding in found] == ["note", "ok"]
    assert str(root.models) in found[0].what
