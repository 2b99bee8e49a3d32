"""Run: what `invokeai-daemon run` does. Locks the root, makes the daemon, turns signals into wishes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from invokeai_daemon.daemon import lock
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.loop import Commands, Daemon
from invokeai_daemon.errors import RootInUse, SettingsError
from invokeai_daemon.job.names import check_template
from invokeai_daemon.job.parse import parse_defaults
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings

#: Exit codes, as in sysexits.h.
OK, IN_USE, UNUSABLE = 0, 75, 78


@dataclass(frozen=True)
class Programs:
    """The worker programs, as modules for `python -m`."""

    renderer: str = "invokeai_daemon.workers.renderer"
    importer: str = "invokeai_daemon.workers.importer"
    downloader: str = "invokeai_daemon.workers.downloader"

    def commands(self, settings: Settings, root: Root) -> Commands:
        memory, seconds = str(settings.import_.memory_mb), str(settings.import_.cpu_seconds)
        limits = ["--memory-mb", memory, "--cpu-seconds", seconds, "--root", str(root.path)]
        # Everybody can read the command lines of processes: tokens do not belong there.
        rendering = settings.model_dump(mode="json", by_alias=True, exclude={"install"})
        return Commands(
            renderer=[
                sys.executable,
                "-m",
                self.renderer,
                "--settings",
                json.dumps(rendering),
                "--memory",
                str(root.memory_file),
            ],
            importer=[sys.executable, "-m", self.importer, *limits],
            downloader=[sys.executable, "-m", self.downloader, "--root", str(root.path)],
        )


def serve(root: Root, settings: Settings, once: bool, programs: Programs = Programs()) -> int:
    """Serve a root until SIGTERM or SIGINT, or, with `once`, until what is there is worked off. The exit code.

    75: another daemon holds the root. 78: the settings or the root cannot be used. Logging must be set up before.
    """
    try:
        defaults = _checked(settings)
        root.make()
        with lock.held(root):
            daemon = Daemon(root, settings, defaults, programs.commands(settings, root), once)
            with _signals(daemon):
                daemon.run()
    except RootInUse as error:
        events.error("daemon.not_started", reason=str(error))
        return IN_USE
    except SettingsError as error:
        events.error("daemon.not_started", reason=str(error))
        return UNUSABLE
    except (NotADirectoryError, FileExistsError, PermissionError) as error:
        reason = f"{error.filename}: {error.strerror}. Every folder of a root must be a folder that can be written."
        events.error("daemon.not_started", reason=reason)
        return UNUSABLE
    return OK


def _checked(settings: Settings) -> Mapping[str, Any]:
    check_template(settings.output.file_name)
    return parse_defaults(settings.defaults, "daemon.toml")


@contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
    """While the body runs, signals become wishes and wake the loop."""

    def stop(number: int, frame: object) -> None:
        daemon.wishes.stop += 1

    def rescan(number: int, frame: object) -> None:
        daemon.wishes.rescan = True

    handlers: dict[signal.Signals, Callable[[int, object], None]] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: rescan,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    before_wake = signal.set_wakeup_fd(daemon.wake_write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before_wake)
        for number, handler in before.items():
            signal.signal(number, handler)
