"""models: list, show, identify, import, remove."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from invokeai_daemon.models.convert.conversion import MARKER
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from tests.conftest import Program
from tests.models.build import sd_1, write_safetensors


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_safetensors(tmp_path / "harbour.safetensors", sd_1())


@pytest.fixture
def registered(root: Root) -> Root:
    """A converted model and a file that was rejected."""
    copy = root.models / "sd-1" / "main" / "harbour"
    copy.mkdir(parents=True)
    (copy / MARKER).write_text("{}")
    source = root.autoimport / "main" / "harbour.safetensors"
    source.write_bytes(b"the user's")
    registry = Registry(root)
    registry.add(
        Entry("harbour", str(copy), "diffusers", "main", "sd-1", "normal", "epsilon", "blake3:abcdef12", str(source))
    )
    registry.add(Entry("odd", "", source="/odd.bin", status="rejected", reason="its pickle asks for os.system"))
    return root


def test_the_list_names_each_model_and_what_is_wrong_with_it(program: Program, registered: Root) -> None:
    listed = program("models", "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "TYPE", "BASE", "STATUS"]
    assert listed[1].split() == ["harbour", "main", "sd-1", "ok"]
    assert "rejected  its pickle asks for os.system" in listed[2]


def test_the_list_as_json_has_the_keys_that_scripts_rely_on(program: Program, registered: Root) -> None:
    first = json.loads(program("models", "list", "--json").stdout)[0]
    keys = ("name", "type", "base", "format", "variant", "prediction_type", "path", "source", "hash", "status")
    assert [key for key in keys if key not in first] == []


def test_a_broken_stanza_is_told_and_hides_no_other(program: Program, registered: Root) -> None:
    with registered.registry_file.open("a") as file:
        file.write("broken: 17\n")
    listed = program("models", "list")
    assert "harbour" in listed.stdout
    assert "broken" in listed.stderr


def test_a_model_is_shown_by_a_unique_start_of_its_name_or_its_hash(program: Program, registered: Root) -> None:
    for name in ("harbour", "harb", "blake3:abcdef"):
        assert "epsilon" in program("models", "show", name).stdout


def test_show_tells_the_facts_in_the_file_that_decided(program: Program, root: Root, checkpoint: Path) -> None:
    Registry(root).add(Entry("boats", str(root.models), "diffusers", "main", "sd-1", source=str(checkpoint)))
    shown = program("models", "show", "boats").stdout
    assert "because" in shown
    assert "has context width 768" in shown


def test_a_name_that_no_model_has_is_answered_with_the_nearest(program: Program, registered: Root) -> None:
    refused = program("models", "show", "harbor")
    assert refused.returncode == 1
    assert 'Did you mean "harbour"?' in refused.stderr


def test_identify_says_what_a_file_is_and_why(program: Program, checkpoint: Path) -> None:
    told = program("models", "identify", checkpoint)
    assert told.returncode == 0, told.stderr
    words = told.stdout.split()
    assert words[:8] == ["type", "main", "base", "sd-1", "format", "checkpoint", "variant", "normal"]
    assert "because" in words
    facts = json.loads(program("models", "identify", checkpoint, "--json").stdout)
    assert {"type", "base", "format", "variant", "prediction_type", "evidence"} <= facts.keys()
    assert facts["evidence"]


def test_identify_needs_no_root(program: Program, checkpoint: Path, tmp_path: Path) -> None:
    environment = {"PATH": "", "HOME": str(tmp_path)}
    assert program("models", "identify", checkpoint, env=environment).returncode == 0


def test_identify_of_an_unknown_file_exits_1_and_names_what_came_near(program: Program, tmp_path: Path) -> None:
    odd = write_safetensors(tmp_path / "odd.safetensors", sd_1(context=999, text=None))
    told = program("models", "identify", odd, "--json")
    assert told.returncode == 1
    facts = json.loads(told.stdout)
    assert facts["nearest"][0]["family"].startswith("sd-1")
    assert "999" in facts["nearest"][0]["why"]
    assert program("models", "identify", odd).stdout.startswith(str(odd))


def test_identify_of_a_damaged_file_says_so(program: Program, tmp_path: Path) -> None:
    damaged = tmp_path / "cut.safetensors"
    damaged.write_bytes(b"\xff" * 7)
    told = program("models", "identify", damaged)
    assert told.returncode == 1
    assert "cut.safetensors" in told.stdout
    assert "Traceback" not in told.stderr


def test_import_copies_a_model_and_its_sidecar_where_the_daemon_looks(
    program: Program, root: Root, checkpoint: Path
) -> None:
    checkpoint.with_suffix(".toml").write_text('name = "boats"\n')
    told = program("models", "import", checkpoint)
    assert told.returncode == 0, told.stderr
    copied = root.autoimport / "main" / "harbour.safetensors"
    assert copied.stat().st_size == checkpoint.stat().st_size
    assert copied.with_suffix(".toml").read_text() == 'name = "boats"\n'
    assert checkpoint.exists()


def test_import_links_when_asked(program: Program, root: Root, checkpoint: Path) -> None:
    assert program("models", "import", "--link", checkpoint).returncode == 0
    assert (root.autoimport / "main" / "harbour.safetensors").readlink() == checkpoint


def test_import_overwrites_nothing_and_refuses_what_no_daemon_would_take(
    program: Program, root: Root, checkpoint: Path, tmp_path: Path
) -> None:
    assert program("models", "import", checkpoint).returncode == 0
    refused = program("models", "import", checkpoint)
    assert refused.returncode == 1
    assert "is already there" in refused.stderr
    note = tmp_path / "note.txt"
    note.write_text("no model")
    assert program("models", "import", note).returncode == 1
    assert [path.name for path in (root.autoimport / "main").iterdir()] == ["harbour.safetensors"]


def test_remove_deletes_the_derived_copy_and_never_the_users_file(program: Program, registered: Root) -> None:
    told = program("models", "remove", "harbour")
    assert told.returncode == 0, told.stderr
    assert not (registered.models / "sd-1" / "main" / "harbour").exists()
    assert (registered.autoimport / "main" / "harbour.safetensors").read_bytes() == b"the user's"
    assert Registry(registered).get("harbour") is None


def test_remove_deletes_no_folder_that_the_daemon_did_not_make(program: Program, root: Root, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    unmarked = root.models / "by-hand"
    linked = root.models / "link"
    for folder in (outside, unmarked):
        folder.mkdir()
        (folder / "weights").write_text("")
    (outside / MARKER).write_text("{}")
    linked.symlink_to(outside)
    registry = Registry(root)
    for name, folder in (("a", outside), ("b", unmarked), ("c", linked)):
        registry.add(Entry(name, str(folder), "diffusers", "main", "sd-1"))
    for name in ("a", "b", "c"):
        assert program("models", "remove", name).returncode == 0
    assert (outside / "weights").exists()
    assert (unmarked / "weights").exists()
    assert Registry(root).models() == []
