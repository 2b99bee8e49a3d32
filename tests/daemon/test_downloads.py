"""Requests in autoimport/ are fetched by a child of the daemon: once, again after breaks, not when taken away.

The downloader and the servers are real; only the clock that says when to try again is the tests' own.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo_model.evaluate import BUNDLED
from invokeai_daemon.daemon.downloads import Downloads
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.run import Programs
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings, load_settings
from tests.daemon.conftest import QUICK, Served, wait_until
from tests.models.install.servers import FileServer, HubServer, Page, served, weights

CAT = weights(50_000)
SETTINGS = "[install]\nallow_private = true\nretries = 0\ntimeout_seconds = 5.0\n[watch]\njob_quiet_seconds = 0.0\n"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with served(FileServer()) as server:
        server.pages["/cat.safetensors"] = Page(CAT)
        yield server


class Desk:
    """The downloads of a root, and a clock that can be put forward."""

    def __init__(self, root: Root) -> None:
        self.root, self.ahead = root, 0.0
        self.arrived: list[Path] = []
        self._selector = selectors.DefaultSelector()
        (root.configs / "daemon.toml").write_text(SETTINGS + "[limits]\nfree_gb = 0.0\n")
        self.downloads = self._make()

    def _make(self) -> Downloads:
        command = [sys.executable, "-m", "invokeai_daemon.workers.downloader", "--root", str(self.root.path)]
        worker = Worker("downloader", command, self._selector, 1000.0)
        settings = load_settings(self.root.settings_file, {})
        return Downloads(self.root, settings, worker, Notifier(""), lambda path, sealed, now: self.arrived.append(path))

    @property
    def now(self) -> float:
        return time.monotonic() + self.ahead

    def drop(self, name: str, text: str) -> Path:
        path = self.root.autoimport / name
        path.write_bytes(text.encode())
        self.downloads.look(path, True, self.now)
        return path

    def until(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, (self.downloads.shown(self.now), list(self.downloads.problems()))
            self._selector.select(0.02)
            self.downloads.step(self.now)

    def idle(self) -> None:
        self.until(lambda: self.downloads.is_idle(self.now))

    def restart(self) -> None:
        self.downloads.stop()
        self.downloads = self._make()
        self.downloads.scan(self.now)

    def close(self) -> None:
        self.downloads.stop()
        self._selector.close()


@pytest.fixture
def desk(root: Root) -> Iterator[Desk]:
    desk = Desk(root)
    yield desk
    desk.close()


def shortcut(server: FileServer, path: str = "/cat.safetensors") -> str:
    return f"[InternetShortcut]\r\nURL={server.url}{path}\r\n"


def test_a_shortcut_is_fetched_beside_itself_and_stays_as_it_is(desk: Desk, server: FileServer) -> None:
    request = desk.drop("lora/cat page.url", shortcut(server))
    desk.idle()
    assert desk.arrived == [desk.root.autoimport / "lora" / "cat.safetensors"]
    assert desk.arrived[0].read_bytes() == CAT
    assert request.read_bytes() == shortcut(server).encode()


def test_a_request_in_no_folder_is_sorted(desk: Desk, server: FileServer) -> None:
    desk.drop("cat page.url", shortcut(server))
    desk.idle()
    assert desk.arrived == [desk.root.autoimport / "installed" / "cat.safetensors"]


def test_a_list_fetches_all_it_names_and_one_failure_stops_no_other(desk: Desk, server: FileServer) -> None:
    server.pages["/dog.safetensors"] = Page(weights(10))
    lines = [f"{server.url}/{name}.safetensors" for name in ("cat", "gone", "dog")]
    path = desk.drop("lora/list.txt", "\n".join(lines))
    desk.idle()
    assert [arrived.name for arrived in desk.arrived] == ["cat.safetensors", "dog.safetensors"]
    (problem,) = desk.downloads.problems()
    assert problem == (problem[0], str(path)) and "has no such file (404)" in problem[0]


def test_prose_shortcuts_of_models_and_sidecars_ask_for_nothing(desk: Desk, server: FileServer) -> None:
    (desk.root.autoimport / "lora" / "cat.safetensors").write_bytes(CAT)
    folder = desk.root.autoimport / "main" / "pipe"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "tokenizer" / "merges.txt").write_text(f"{server.url}/cat.safetensors")
    (desk.root.autoimport / "main" / "pipe.txt").write_text(f"{server.url}/cat.safetensors")
    (desk.root.autoimport / "lora" / "cat.url").write_text(shortcut(server))
    (desk.root.autoimport / "lora" / "cat.toml").write_text(f'install = "{server.url}/cat.safetensors"')
    (desk.root.autoimport / "LICENSE.txt").write_text(f"Be kind.\n{server.url}/cat.safetensors")
    desk.downloads.scan(desk.now)
    desk.idle()
    assert (server.asked, list(desk.downloads.problems())) == ([], [])


def test_a_sidecar_that_came_first_names_its_model(desk: Desk, server: FileServer) -> None:
    request = desk.drop("lora/ink.toml", f'install = "{server.url}/cat.safetensors"\nname = "Ink"\n')
    desk.idle()
    assert desk.arrived == [desk.root.autoimport / "lora" / "ink.safetensors"]
    assert sorted(path.name for path in request.parent.iterdir()) == ["ink.safetensors", "ink.toml"]
    assert request.read_text().endswith('name = "Ink"\n')


def test_a_sidecar_says_what_its_model_must_be(desk: Desk, server: FileServer) -> None:
    desk.drop("ink.toml", f'install = "{server.url}/cat.safetensors"\nhash = "sha256:{"0" * 64}"\n')
    desk.idle()
    assert "is not what it should be" in next(iter(desk.downloads.problems()))[0]
    assert desk.arrived == []


@pytest.mark.parametrize(
    "text", ["[InternetShortcut]\nURL=file:///etc/passwd\n", "/etc/passwd", "http://169.254.169.254/x"]
)
def test_what_a_drop_must_not_reach_is_told_and_not_tried_again(desk: Desk, text: str) -> None:
    path = desk.drop("x.url", text)
    desk.idle()
    (problem,) = desk.downloads.problems()
    assert problem[1] == str(path)
    desk.ahead += 100_000
    desk.idle()
    assert desk.arrived == []
    path.unlink()
    desk.downloads.look(path, False, desk.now)
    assert list(desk.downloads.problems()) == []


def test_what_was_fetched_is_not_fetched_again_by_the_next_start(desk: Desk, server: FileServer) -> None:
    path = desk.drop("cat page.url", shortcut(server))
    desk.idle()
    desk.arrived[0].unlink()
    path.rename(path.with_name("another name.url"))
    desk.restart()
    desk.idle()
    assert len(server.asked) == 1


def test_asking_again_is_asking_anew(desk: Desk, server: FileServer) -> None:
    path = desk.drop("cat page.url", shortcut(server))
    desk.idle()
    desk.arrived[0].unlink()
    path.unlink()
    desk.downloads.look(path, False, desk.now)
    desk.drop("cat page.url", shortcut(server))
    desk.idle()
    assert len(desk.arrived) == 2 and desk.arrived[1].read_bytes() == CAT


def test_asking_again_is_asking_anew_though_it_was_taken_away_while_nobody_looked(
    desk: Desk, server: FileServer
) -> None:
    """The request has the stem of its model: after a start it is a note about that model."""
    path = desk.drop("lora/cat.url", shortcut(server))
    desk.idle()
    desk.restart()
    desk.idle()
    assert path not in desk.downloads.requests
    desk.arrived[0].unlink()
    path.unlink()
    desk.restart()
    desk.idle()
    desk.drop("lora/cat.url", shortcut(server))
    desk.idle()
    assert len(desk.arrived) == 2 and len(server.asked) == 2


def test_a_request_that_was_edited_is_followed_anew(desk: Desk, server: FileServer) -> None:
    path = desk.drop("x.url", shortcut(server, "/gone.safetensors"))
    desk.idle()
    assert list(desk.downloads.problems())
    path.write_text(shortcut(server))
    desk.downloads.look(path, True, desk.now)
    desk.idle()
    assert [arrived.name for arrived in desk.arrived] == ["cat.safetensors"]
    assert list(desk.downloads.problems()) == []


def test_what_may_pass_is_tried_again_ever_more_rarely_and_goes_on_where_it_stopped(
    desk: Desk, server: FileServer
) -> None:
    server.pages["/cat.safetensors"].breaks = [10_000, 5_000]
    path = desk.drop("cat page.url", shortcut(server))
    desk.idle()
    (problem,) = desk.downloads.problems()
    assert problem[1] == str(path) and problem[0].endswith("It is tried again.")
    assert [one["state"] for one in desk.downloads.shown(desk.now)] == ["waiting"]
    assert desk.downloads.next_time(desk.now) <= desk.now + 15
    for pause in (16, 31):
        desk.ahead += pause - 10
        desk.idle()
        asked = len(server.asked)
        desk.ahead += 10
        desk.until(lambda asked=asked: len(server.asked) > asked)
        desk.idle()
    assert [one.headers.get("range") for one in server.asked] == [None, "bytes=10000-", "bytes=15000-"]
    assert desk.arrived[0].read_bytes() == CAT


def test_taking_the_request_away_ends_the_download_and_leaves_nothing(desk: Desk, server: FileServer) -> None:
    server.pages["/cat.safetensors"].slow = 0.05
    path = desk.drop("cat page.url", shortcut(server))
    desk.until(lambda: any(one.get("done") for one in desk.downloads.shown(desk.now)))
    path.unlink()
    desk.downloads.look(path, False, desk.now)
    desk.idle()
    assert (desk.arrived, list(desk.downloads.problems())) == ([], [])
    assert not [found for found in desk.root.autoimport.rglob("*") if found.is_file()]


def test_progress_is_shown(desk: Desk, server: FileServer) -> None:
    server.pages["/cat.safetensors"].slow = 0.02
    path = desk.drop("cat page.url", shortcut(server))
    desk.until(lambda: any(one.get("eta_s") is not None for one in desk.downloads.shown(desk.now)))
    (shown,) = desk.downloads.shown(desk.now)
    assert (shown["source"], shown["request"], shown["of"]) == (f"{server.url}/cat.safetensors", str(path), len(CAT))
    assert 0 < shown["done"] < len(CAT) and shown["bytes_per_second"] > 0
    json.dumps(shown)


def test_secrets_of_addresses_are_in_no_note_and_no_status(desk: Desk, server: FileServer) -> None:
    desk.drop("cat page.url", f"{server.url}/cat.safetensors?token=hidden")
    desk.downloads.step(desk.now)
    assert "hidden" not in json.dumps(desk.downloads.shown(desk.now))
    desk.idle()
    assert desk.arrived
    assert b"hidden" not in b"".join(path.read_bytes() for path in desk.root.state.iterdir() if path.is_file())


def test_a_downloader_that_is_killed_is_replaced(desk: Desk, server: FileServer) -> None:
    server.pages["/cat.safetensors"].slow = 0.02
    desk.drop("cat page.url", shortcut(server))
    desk.until(lambda: any(one.get("done") for one in desk.downloads.shown(desk.now)))
    os.kill(desk.downloads.worker.pid or 0, signal.SIGKILL)
    desk.idle()
    server.pages["/cat.safetensors"].slow = 0.0
    desk.ahead += 20
    desk.until(lambda: desk.arrived)
    assert desk.arrived[0].read_bytes() == CAT
    assert server.asked[-1].headers["range"].startswith("bytes=")


def test_nothing_is_fetched_where_the_settings_say_so(root: Root, server: FileServer) -> None:
    desk = Desk(root)
    desk.downloads.settings = Settings.model_validate({"install": {"drops": False}})
    desk.drop("cat page.url", shortcut(server))
    desk.downloads.scan(desk.now)
    desk.idle()
    desk.close()
    assert (desk.arrived, server.asked) == ([], [])


def test_the_hub_is_asked_though_other_processes_are_told_to_stay_offline(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The systemd unit sets this for all, so that rendering never waits for a network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    desk, hub = Desk(root), HubServer()
    hub.repos["me/ink"] = {"pytorch_lora_weights.safetensors": CAT}
    with served(hub):
        root.settings_file.write_text(f'[install]\nhub_endpoint = "{hub.url}"\n[limits]\nfree_gb = 0.0\n')
        desk.drop("ink.txt", "me/ink\n")
        desk.idle()
    desk.close()
    assert (desk.arrived, list(desk.downloads.problems())) == ([root.autoimport / "lora" / "ink.safetensors"], [])


def test_tokens_stand_in_no_command_line(root: Root) -> None:
    settings = Settings.model_validate({"install": {"tokens": {"example.org": "s3cret"}}})
    commands = Programs().commands(settings, root)
    assert not [word for command in vars(commands).values() for word in command if "s3cret" in word]


# -- with the whole daemon ---------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(root: Root) -> Iterator[Served]:
    (root.configs / "daemon.toml").write_text(SETTINGS)
    served = Served(root, {**QUICK, "import": {"thumbnails": False}})
    yield served
    if served.process is not None and served.process.poll() is None:
        served.process.kill()
        served.process.wait()


def test_a_shortcut_dropped_becomes_a_model_even_through_a_power_cut(daemon: Served, server: FileServer) -> None:
    server.pages["/demo.safetensors"] = Page(BUNDLED.read_bytes(), slow=0.001)
    daemon.start()
    (daemon.root.autoimport / "star.url").write_text(shortcut(server, "/demo.safetensors"))
    wait_until(lambda: any(one.get("done", 0) > 1e6 for one in daemon.status().get("downloads", [])))
    daemon.stop(signal.SIGKILL)
    server.pages["/demo.safetensors"].slow = 0.0
    assert daemon.start(once=True).wait(timeout=100) == 0
    (entry,) = Registry(daemon.root).models()
    assert (entry.name, entry.type, entry.base, entry.status) == ("demo", "main", "sd-1", "ok")
    assert entry.source == str(daemon.root.autoimport / "installed" / "demo.safetensors")
    assert server.asked[-1].headers["range"].startswith("bytes=")
    assert [event["was_there"] for event in daemon.events("download.installed")] == [False]
