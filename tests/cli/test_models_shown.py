"""models list and show: filters, lines that fit a terminal, pictures only where somebody looks on."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from PIL import Image

from invokeai_daemon.cli.models.picture import drawing, protocol
from invokeai_daemon.cli.models.report import table
from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.cover import opened_picture
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from tests.conftest import Program

REASON = "its pickle asks for os.system, " * 9


@pytest.fixture
def registered(root: Root, tmp_path: Path) -> Root:
    cover = tmp_path / "cover.png"
    Image.new("RGB", (40, 20), (200, 10, 10)).save(cover)
    path = str(root.models)
    Registry(root).add_many(
        [
            Entry("zebra", path, "diffusers", "main", "sd-1", cover_image=str(cover), trigger_phrases=("a", "b")),
            Entry("Ape", path, "lycoris", "lora", "sdxl", description="swings"),
            Entry("bad", "", source="/bad.bin", status="rejected", reason=REASON, type="lora", base="sd-1"),
        ]
    )
    return root


def on_a_terminal(root: Root, *arguments: str, columns: int = 70, **environment: str) -> str:
    """What the program prints when a person looks on."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, columns))
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    command = [sys.executable, "-m", "invokeai_daemon", "models", *arguments, "--root", str(root.path)]
    process = subprocess.Popen(command, stdout=child, env={**kept, "TERM": "xterm-256color", **environment})
    os.close(child)
    said = b""
    while select.select([parent], [], [], 60)[0]:
        try:
            said += os.read(parent, 65536)
        except OSError:
            break
    os.close(parent)
    assert process.wait(60) == 0
    return said.decode()


def test_the_list_is_by_name_and_narrowed_by_type_base_and_status(program: Program, registered: Root) -> None:
    def names(*filters: str) -> list[str]:
        return [entry["name"] for entry in json.loads(program("models", "list", "--json", *filters).stdout)]

    assert names() == ["Ape", "bad", "zebra"]
    assert names("--type", "lora") == ["Ape", "bad"]
    assert names("--type", "lora", "--base", "sdxl", "--base", "sd-2") == ["Ape"]
    assert names("--status", "rejected") == ["bad"]


def test_a_list_that_nothing_fits_says_so(program: Program, registered: Root) -> None:
    assert "None of the 3 models is like this." in program("models", "list", "--type", "vae").stdout


def test_lines_fit_the_terminal_and_are_whole_in_a_pipe(program: Program, registered: Root) -> None:
    shown = on_a_terminal(registered, "list").splitlines()
    assert len(shown) == 4
    assert max(map(len, shown)) <= 70
    assert any(line.endswith("…") for line in shown)
    assert REASON.strip() in program("models", "list").stdout


def test_long_names_leave_room_for_the_rest() -> None:
    rows = [("NAME", "TYPE", "STATUS", ""), ("n" * 90, "lora", "ok", "d" * 90)]
    assert [len(line) <= 60 for line in table(rows, 60)] == [True, True]
    assert "lora  ok" in table(rows, 60)[1]
    assert table(rows)[1].split() == ["n" * 90, "lora", "ok", "d" * 90]


def test_what_a_stranger_wrote_cannot_act_on_the_terminal() -> None:
    assert "\x1b" not in "".join(table([("a\x1b[2J\nb", "c")]))


def test_show_tells_all_and_draws_only_on_a_terminal(program: Program, registered: Root) -> None:
    piped = program("models", "show", "zebra").stdout
    assert "trigger_phrases  a\n                 b\n" in piped
    assert "\x1b" not in piped
    assert "▀" in on_a_terminal(registered, "show", "zebra")
    assert "\x1b_Ga=T,f=100" in on_a_terminal(registered, "show", "zebra", TERM="xterm-kitty")
    assert "\x1b]1337;File=inline=1" in on_a_terminal(registered, "show", "zebra", TERM_PROGRAM="iTerm.app")


def test_a_cover_that_is_gone_or_no_picture_is_not_drawn(registered: Root, tmp_path: Path) -> None:
    (tmp_path / "cover.png").write_bytes(b"no picture")
    assert "▀" not in on_a_terminal(registered, "show", "zebra")
    (tmp_path / "cover.png").unlink()
    assert "zebra" in on_a_terminal(registered, "show", "zebra")


def test_each_terminal_gets_its_own_protocol_and_a_multiplexer_none() -> None:
    assert protocol({"KITTY_WINDOW_ID": "1"}) == "kitty"
    assert protocol({"TERM_PROGRAM": "WezTerm"}) == "kitty"
    assert protocol({"LC_TERMINAL": "iTerm2"}) == "iterm"
    assert protocol({"KITTY_WINDOW_ID": "1", "TMUX": "/tmp/x"}) == "blocks"
    assert protocol({"TERM": "xterm"}) == "blocks"


def test_a_large_picture_goes_to_kitty_in_pieces_that_end() -> None:
    pieces = list(drawing(Image.effect_noise((600, 600), 90).convert("RGB"), "kitty"))
    assert len(pieces) > 3
    assert all(len(piece) < 4200 for piece in pieces)
    assert all(f"m={int(number < len(pieces))};" in piece for number, piece in enumerate(pieces, start=1))
    assert pieces[-1].startswith("\x1b_Gm=0;")


def test_only_pictures_are_opened_as_pictures(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    with pytest.raises(ModelError):
        opened_picture(fifo)
    other = tmp_path / "page.png"
    Image.new("RGB", (4, 4)).save(other, "TIFF")
    with pytest.raises(ModelError, match="no PNG, JPEG or WebP"):
        opened_picture(other)


def test_several_models_are_shown_and_identified_together(program: Program, registered: Root, tmp_path: Path) -> None:
    shown = json.loads(program("models", "show", "zebra", "Ape", "--json").stdout)
    assert [entry["name"] for entry in shown] == ["zebra", "Ape"]
    for name in ("one", "two"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"\xff" * 7)
    told = program("models", "identify", tmp_path / "one.safetensors", tmp_path / "two.safetensors", "--json")
    assert told.returncode == 1
    assert [Path(one["path"]).stem for one in json.loads(told.stdout)] == ["one", "two"]


def test_a_folder_of_models_is_imported_one_by_one(program: Program, root: Root, tmp_path: Path) -> None:
    from tests.models.build import sd_1, write_safetensors

    folder = tmp_path / "mine" / "deep"
    folder.mkdir(parents=True)
    write_safetensors(folder / "good.safetensors", sd_1())
    (folder / "good.json").write_text("{}")
    (folder / "cut.safetensors").write_bytes(b"\xff" * 7)
    told = program("models", "import", "--link", tmp_path / "mine", "--json")
    assert told.returncode == 1
    assert [(Path(one["name"]).name, one["ok"]) for one in json.loads(told.stdout)] == [
        ("cut.safetensors", False),
        ("good.safetensors", True),
    ]
    assert sorted(path.name for path in (root.autoimport / "main").iterdir()) == ["good.json", "good.safetensors"]
    (tmp_path / "empty").mkdir()
    assert "there is no model in this folder" in program("models", "import", tmp_path / "empty").stderr
