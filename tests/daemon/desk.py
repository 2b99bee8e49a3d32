"""Jobs without a renderer and without a clock: the way from the inbox to the board, step by step, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from invokeai_daemon.daemon.active import Active, Board
from invokeai_daemon.daemon.jobs import Jobs
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.planning import Planner
from invokeai_daemon.daemon.room import DiskRoom
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.models.registry import Registry
from invokeai_daemon.output.results import Outcome
from invokeai_daemon.root import STATES, Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.spool.spool import Spool

QUIET = 2.0
WINDOW = 8


class Desk:
    """One root as the daemon's loop handles it; `now` is the only clock."""

    def __init__(self, root: Root, settings: Settings | None = None, defaults: dict[str, Any] | None = None) -> None:
        self.root, self.now = root, 1000.0
        settings = settings or Settings.model_validate({"limits": {"free_gb": 0.0}})
        self.registry = Registry(root)
        self.spool = Spool(root)
        self.board = Board(WINDOW)
        self.watch = Watch(lambda: None, 5.0, force_polling=True)
        self.room = DiskRoom(root.outputs, settings.limits.free_gb, lambda: self.now)
        planner = Planner(root, settings, defaults or {}, self.registry)
        self.jobs = Jobs(root, settings, self.spool, planner, self.board, self.watch, Notifier(""), self.room)
        self.jobs.recover()
        self.jobs.scan(self.now)

    def register(self, name: str = "paint", **more: Any) -> None:
        folder = self.root.models / "sd-1" / "main" / name
        folder.mkdir(parents=True, exist_ok=True)
        stanza = {"path": str(folder), "format": "diffusers", "type": "main", "base": "sd-1", **more}
        lines = [f"  {key}: {json.dumps(value)}\n" for key, value in stanza.items()]
        with self.root.registry_file.open("a") as file:
            file.write(f"{name}:\n{''.join(lines)}")

    def drop(self, name: str, content: str | bytes, sealed: bool = True) -> Path:
        path = self.root.inbox / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.jobs.look(path, sealed, self.now)
        return path

    def edit(self, path: Path, content: str) -> None:
        path.write_text(content)
        self.jobs.look(path, True, self.now)

    def tick(self, seconds: float = 0.0) -> None:
        """What the loop does in a turn, so many seconds later."""
        self.now += seconds
        self.jobs.step(self.now)
        if self.room.look():
            self.jobs.queue.recheck_waiting()
        self.jobs.claim(self.now)
        self.jobs.settle_ends()
        self.spool.sync()

    def render(self, active: Active, *, fail: dict[int, str] | None = None, only: int = 10**6) -> None:
        """End images of a job as a renderer would: publish them, or let them fail."""
        for image in active.plan.images[:only]:
            if fail and image.number in fail:
                active.end(Outcome(image.number, "failed", error=fail[image.number]))
            else:
                active.results.publish(active.plan, image, b"a picture")
                active.end(Outcome(image.number, "done", 0.1))
        if active.is_finished:
            self.jobs.end(active)
        self.tick()

    def places(self) -> dict[str, list[str]]:
        """Which files are in which state folder; empty ones left out."""
        names = {state: sorted(path.name for path in self.root.state_folder(state).iterdir()) for state in STATES}
        return {state: found for state, found in names.items() if found}

    def error(self, job_id: str) -> str:
        return (self.root.state_folder("failed") / f"{job_id}.error.txt").read_text()

    def why(self, job_id: str) -> str:
        return (self.root.state_folder("waiting") / f"{job_id}.why.txt").read_text()
