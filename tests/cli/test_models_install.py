"""`models install` as users type it: what it brings, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from invokeai_daemon.root import Root
from tests.conftest import Program
from tests.models.build import sd_1, write_safetensors
from tests.models.install.servers import FileServer, HubServer, Page, served, weights

CAT = weights(50_000)


@pytest.fixture
def server(root: Root) -> Iterator[FileServer]:
    (root.settings_file).write_text("[install]\nretries = 0\n[limits]\nfree_gb = 0.0\n")
    with served(FileServer()) as server:
        server.pages["/cat.safetensors"] = Page(CAT)
        yield server


def test_an_address_is_installed_and_said_to_be_there_the_next_time(
    root: Root, program: Program, server: FileServer
) -> None:
    url = f"{server.url}/cat.safetensors"
    done = program("models", "install", "--allow-private", "--to", "lora", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Installed autoimport/lora/cat.safetensors; the daemon takes it up.\n"
    assert (root.autoimport / "lora" / "cat.safetensors").read_bytes() == CAT
    again = program("models", "install", "--allow-private", "--to", "lora", url)
    assert again.stdout == "autoimport/lora/cat.safetensors is there already.\n"


def test_each_source_is_told_of_and_a_failure_stops_no_other(
    root: Root, program: Program, server: FileServer, tmp_path: Path
) -> None:
    cat = write_safetensors(tmp_path / "mine.safetensors", sd_1())
    sources = [f"{server.url}/gone.ckpt", "file:///etc/passwd", "some words", cat, f"{server.url}/cat.safetensors"]
    done = program("models", "install", "--allow-private", "--json", *sources)
    assert done.returncode == 1
    outcomes = json.loads(done.stdout)
    assert [one["ok"] for one in outcomes] == [False, False, False, True, True]
    assert [one["name"] for one in outcomes] == [str(source) for source in sources]
    assert outcomes[3]["paths"] == [str(root.autoimport / "main" / "mine.safetensors")]
    assert "no such file (404)" in outcomes[0]["message"] and "file:// is not fetched" in outcomes[1]["message"]


def test_a_folder_brings_every_model_in_it(root: Root, program: Program, tmp_path: Path) -> None:
    for name in ("a/one", "b/c/two"):
        (tmp_path / "shelf" / name).parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(tmp_path / "shelf" / f"{name}.safetensors", sd_1())
    (tmp_path / "shelf" / "cut.safetensors").write_bytes(CAT[:-1])
    done = program("models", "install", tmp_path / "shelf")
    assert done.returncode == 1
    assert done.stdout.count("Installed autoimport/main/") == 2
    assert "cut.safetensors" in done.stderr and "2 of 3 done" in done.stderr


def test_a_repository_is_installed_from_the_hub_of_the_settings(root: Root, program: Program) -> None:
    hub = HubServer()
    hub.repos["me/ink"] = {"pytorch_lora_weights.safetensors": weights(100)}
    with served(hub):
        root.settings_file.write_text(f'[install]\nhub_endpoint = "{hub.url}"\n[limits]\nfree_gb = 0.0\n')
        done = program("models", "install", "me/ink")
    assert done.stdout == "Installed autoimport/lora/ink.safetensors; the daemon takes it up.\n", done.stderr


def test_a_name_and_a_hash_are_of_one_model(root: Root, program: Program, server: FileServer) -> None:
    url = f"{server.url}/cat.safetensors"
    done = program("models", "install", "--allow-private", "--name", "Big Cat", url)
    assert "autoimport/installed/Big Cat.safetensors" in done.stdout
    assert 'name = "Big Cat"' in (root.autoimport / "installed" / "Big Cat.toml").read_text()
    wrong = program("models", "install", "--allow-private", "--sha256", "0" * 64, f"{server.url}/cat.safetensors")
    assert wrong.returncode == 1 and "is not what it should be" in wrong.stderr
    assert "for one model" in program("models", "install", "--name", "x", url, url).stderr
    assert "is not below autoimport/" in program("models", "install", "--to", "../outputs", url).stderr


def test_this_machine_is_not_asked_unless_that_is_meant(root: Root, program: Program, server: FileServer) -> None:
    done = program("models", "install", f"{server.url}/cat.safetensors")
    assert done.returncode == 1 and "[install] allow_private = true" in done.stderr
    assert server.asked == []


def test_without_a_source_the_starters_are_listed(root: Root, program: Program) -> None:
    root.registry_file.write_text(
        "deliberate-1.0:\n  path: models\n  type: main\n  base: sd-1\n  format: diffusers\n  description: mine\n"
    )
    lines = program("models", "install").stdout.splitlines()
    assert lines[0].split() == ["NAME", "GB", "DESCRIPTION"]
    rows = {line.split()[0]: line for line in lines[1:15]}
    assert "default" in rows["stable-diffusion-1.5"] and "4.27" in rows["stable-diffusion-1.5"]
    assert "recommended" in rows["sd-inpainting-1.5"]
    assert "installed" in rows["deliberate-1.0"] and "installed" not in rows["inkpunk-1.0"]
    facts = json.loads(program("models", "install", "--json").stdout)
    assert [one["name"] for one in facts if one["installed"]] == ["deliberate-1.0"]
    assert facts[0]["sources"][0] == "runwayml/stable-diffusion-v1-5"


def test_starters_are_installed_by_name_and_by_set(root: Root, program: Program) -> None:
    (root.configs / "INITIAL_MODELS.yaml").write_text(
        "a:\n  repo_id: me/a\n  recommended: true\nb:\n  repo_id: me/b\n  default: true\nc:\n  repo_id: me/c\n"
    )
    hub = HubServer()
    hub.repos |= {f"me/{name}": {f"{name}.safetensors": weights(10)} for name in "abc"}
    with served(hub):
        root.settings_file.write_text(f'[install]\nhub_endpoint = "{hub.url}"\n[limits]\nfree_gb = 0.0\n')
        program("models", "install", "--starter", "recommended", "--starter", "a")
        assert sorted(path.name for path in root.autoimport.rglob("*.safetensors")) == [
            "a.safetensors",
            "b.safetensors",
        ]
        program("models", "install", "c")
    assert (root.autoimport / "main" / "c.safetensors").exists()
    wrong = program("models", "install", "--starter", "recomended")
    assert wrong.returncode == 1 and "Did you mean recommended?" in wrong.stderr


def test_a_terminal_shows_how_far_it_is(root: Root, server: FileServer) -> None:
    server.pages["/cat.safetensors"].slow = 0.01
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "invokeai_daemon", "models", "install", "--allow-private"]
    environment = os.environ | {"INVOKEAI_DAEMON_ROOT": str(root.path), "TERM": "xterm", "COLUMNS": "120"}
    running = subprocess.Popen(
        [*command, f"{server.url}/cat.safetensors"], stdout=subprocess.PIPE, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        # The other end was closed.
        pass
    os.close(ours)
    assert running.communicate()[0].startswith(b"Installed")
    text = shown.decode()
    assert "cat.safetensors" in text and "/50.1 kB" in text and "kB/s" in text
