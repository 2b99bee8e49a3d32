"""metadata: what a picture records, in every form that somebody needs."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from invokeai_daemon.cli.metadata import text_of
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.records import Record
from invokeai_daemon.output.metadata import chunks, versions
from invokeai_daemon.output.png import encode
from tests.conftest import Program


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture as the renderer writes it."""
    image = Image(1, 42, "a red circle", "people", 64, 64, 20, 7.5, "dpmpp_2m_k")
    plan = Plan("circle", ModelRef("demo", "/models/demo", "sd-1", hash="blake3:ab"), (image,), meta={"x-who": "me"})
    return write(tmp_path / "0001.42.png", chunks(plan, image, versions()))


def write(path: Path, texts: dict[str, str]) -> Path:
    path.write_bytes(encode(np.zeros((64, 64, 3), np.uint8), texts, 3))
    return path


def test_a_picture_is_described_in_words(program: Program, picture: Path) -> None:
    told = program("metadata", picture)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[0] == f"{picture} (written by invokeai-daemon)"
    assert "a red circle" in told.stdout
    assert "dpmpp_2m_k" in told.stdout


def test_what_stands_in_tables_is_described_key_by_key() -> None:
    job = {"prompt": "a cat", "init": {"fit": True, "strength": 0.5}, "loras": [{"name": "ink"}], "seeds": [1, 2]}
    assert text_of(Record("f.png", "invokeai-daemon", {}, job)).splitlines()[1:] == [
        "  prompt         a cat",
        "  init.fit       true",
        "  init.strength  0.5",
        "  loras[0].name  ink",
        "  seeds          [1, 2]",
    ]


def test_the_record_is_printed_as_json(program: Program, picture: Path) -> None:
    record = json.loads(program("metadata", "--json", picture).stdout)
    assert record["file"] == str(picture)
    assert record["job"]["seed"] == 42
    assert record["record"]["model"]["hash"] == "blake3:ab"


def test_the_job_it_prints_is_valid_and_asks_for_the_same_picture(
    program: Program, picture: Path, tmp_path: Path
) -> None:
    text = program("metadata", "--job", picture).stdout
    job = tomllib.loads(text)
    assert (job["prompt"], job["seed"], job["scheduler"], job["x-who"]) == ("a red circle", 42, "dpmpp_2m_k", "me")
    (tmp_path / "again.toml").write_text(text)
    assert program("check", "again.toml").returncode == 0


def test_the_command_it_prints_is_one_that_the_inbox_takes(program: Program, picture: Path, tmp_path: Path) -> None:
    line = program("metadata", "--command", picture).stdout
    assert line.startswith("a red circle [people] -s 20 -S 42 -W 64 -H 64 -C 7.5 -A dpmpp_2m_k")
    (tmp_path / "again.txt").write_text(line)
    assert program("check", "again.txt").returncode == 0


def test_several_pictures_and_one_that_says_nothing(program: Program, picture: Path, tmp_path: Path) -> None:
    mute = write(tmp_path / "mute.png", {})
    told = program("metadata", mute, picture, tmp_path / "gone.png")
    assert told.returncode == 1
    assert "mute.png: This picture does not say how it was made." in told.stderr
    assert "gone.png cannot be read: No such file" in told.stderr
    assert "a red circle" in told.stdout
    assert len(json.loads(program("metadata", "--json", mute, picture).stdout)) == 1


def test_what_a_job_cannot_ask_for_is_told_instead_of_left_out(program: Program, tmp_path: Path) -> None:
    record = {"generation_mode": "img2img", "positive_prompt": "a boat", "seed": 1, "init_image": "photo.png"}
    theirs = write(tmp_path / "theirs.png", {"invokeai_metadata": json.dumps(record)})
    for form in ("--job", "--command"):
        told = program("metadata", form, theirs)
        assert told.returncode == 1
        assert '"photo.png" in InvokeAI\'s own outputs' in told.stderr
    assert "a boat" in program("metadata", theirs).stdout


def test_two_answers_at_once_are_refused(program: Program, picture: Path) -> None:
    assert program("metadata", "--json", "--job", picture).returncode == 2
