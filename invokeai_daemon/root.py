"""The root: the folder a daemon serves, and the names of what is in it. Light: the status command imports this."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.errors import RootNotFound

STATES = ("queued", "waiting", "running", "done", "failed")
#: Where a job's results have copies of the pictures that it names.
INPUTS = "inputs"
AUTOIMPORT_FOLDERS = ("main", "lora", "embedding", "controlnet", "vae", "upscaler")


@dataclass(frozen=True)
class Root:
    """The paths of one root. Nothing is made here; see `make`."""

    path: Path

    @property
    def configs(self) -> Path:
        return self.path / "configs"

    @property
    def settings_file(self) -> Path:
        return self.configs / "daemon.toml"

    @property
    def registry_file(self) -> Path:
        return self.configs / "models.yaml"

    @property
    def autoimport(self) -> Path:
        return self.path / "autoimport"

    @property
    def inbox(self) -> Path:
        return self.path / "inbox"

    @property
    def outputs(self) -> Path:
        return self.path / "outputs"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def state(self) -> Path:
        return self.path / ".state"

    @property
    def memory_file(self) -> Path:
        """How models fit into the device's memory, as the renderer found out."""
        return self.state / "memory.json"

    @property
    def status_file(self) -> Path:
        return self.state / "status.json"

    @property
    def lock_file(self) -> Path:
        return self.state / "lock"

    def state_folder(self, state: str) -> Path:
        """The inbox folder of a job state ("new" is the inbox itself)."""
        return self.inbox if state == "new" else self.inbox / state

    def folders(self) -> list[Path]:
        return [
            self.configs,
            *(self.autoimport / name for name in AUTOIMPORT_FOLDERS),
            *(self.inbox / state for state in STATES),
            self.outputs,
            self.models,
            self.state,
        ]

    def make(self) -> None:
        """Make every folder of the root that is not there."""
        for folder in self.folders():
            folder.mkdir(parents=True, exist_ok=True)


def looks_like_root(path: Path) -> bool:
    return all((path / name).is_dir() for name in ("configs", "autoimport", "inbox", "outputs"))


def find_root(named: str | None, environ: Mapping[str, str], cwd: Path, home: Path) -> Root:
    """--root, then $INVOKEAI_DAEMON_ROOT, then the current folder if it looks like one, then ~/invokeai.

    Raises RootNotFound when the chosen folder is not a root.
    """
    chosen = named or environ.get("INVOKEAI_DAEMON_ROOT")
    if chosen:
        path = Path(chosen).expanduser()
    elif looks_like_root(cwd):
        path = cwd
    else:
        path = home / "invokeai"
    path = Path(os.path.normpath(path.absolute()))
    if not looks_like_root(path):
        raise RootNotFound(
            f"{path} is not a root: it lacks configs/, autoimport/, inbox/ or outputs/. "
            f"Make one with `invokeai-daemon init {path}`, or name one with --root."
        )
    return Root(path)
