"""The program: it names its commands, and every error is one message and an exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from invokeai_daemon import __version__
from invokeai_daemon.cli.commands import COMMANDS
from invokeai_daemon.cli.main import exit_code
from invokeai_daemon.errors import DaemonError, RootInUse, SettingsError
from tests.conftest import Program


def test_help_lists_every_command(program: Program) -> None:
    listed = program("--help")
    assert listed.returncode == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in listed.stdout] == []


def test_every_command_explains_itself(program: Program) -> None:
    for name in COMMANDS:
        explained = program(name, "--help")
        assert explained.returncode == 0, name
        assert "usage" in explained.stdout.lower(), name


def test_the_version_is_told(program: Program) -> None:
    assert __version__ in program("--version").stdout


def test_a_command_that_does_not_exist_is_a_usage_error(program: Program) -> None:
    refused = program("statsu")
    assert refused.returncode == 2
    assert "statsu" in refused.stderr


def test_a_folder_that_is_no_root_is_named_with_the_way_out(program: Program, tmp_path: Path) -> None:
    for command in (["status"], ["jobs", "list"], ["models", "list"]):
        refused = program(*command, "--root", tmp_path)
        assert refused.returncode == 78
        assert f"{tmp_path} is not a root" in refused.stderr
        assert "invokeai-daemon init" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_exit_codes_tell_a_held_root_from_bad_settings_from_the_rest() -> None:
    assert exit_code(RootInUse("/root", 7)) == 75
    assert exit_code(SettingsError("daemon.toml", [])) == 78
    assert exit_code(DaemonError("else")) == 1


def test_a_reader_that_goes_away_is_no_error(program: Program) -> None:
    script = f"{sys.executable} -m invokeai_daemon schema | head -1; exit ${{PIPESTATUS[0]}}"
    piped = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert piped.stdout == "{\n"
    assert "Traceback" not in piped.stderr
