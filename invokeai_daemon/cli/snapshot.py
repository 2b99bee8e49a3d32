"""What is known about a root right now: the daemon's status file, and the folders, which know more than it.

Works with the daemon down. Light, like all of `status`: counts names and opens a handful of small files.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
from pathlib import Path
from typing import Any

from invokeai_daemon.root import STATES, Root
from invokeai_daemon.spool.spool import DROP_SUFFIXES, Spool, Ticket

#: A daemon that has not written its status for so long hangs or was killed.
SILENT_SECONDS = 15.0
#: How many waiting and failed jobs one screen explains.
EXPLAINED = 3

#: What `take` returns when no daemon ever ran here.
NOTHING: dict[str, Any] = {
    "state": "stopped",
    "pid": None,
    "heartbeat": None,
    "jobs": {},
    "images": {},
    "current": None,
    "models": {},
    "watch": [],
    "downloads": [],
    "device": None,
    "problems": [],
}


def take(root: Root, now: float) -> dict[str, Any]:
    """The keys of status.json, and `root stale_since paused waiting failed disk_free`; all JSON.

    `state` is running, degraded or stopped as seen from here: a status file outlives its daemon.
    """
    written = NOTHING | _read(root.status_file)
    spool = Spool(root)
    return (
        written
        | _liveness(written, now)
        | {
            "root": str(root.path),
            "jobs": {"new": _count_new(root)} | {state: spool.count(state) for state in STATES},
            "paused": spool.paused,
            "waiting": _explained(spool, "waiting"),
            "failed": _explained(spool, "failed"),
            "disk_free": shutil.disk_usage(root.path).free,
        }
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        status = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def _liveness(written: dict[str, Any], now: float) -> dict[str, Any]:
    heartbeat = written["heartbeat"]
    if written["state"] == "stopped" or heartbeat is None or not _is_daemon(written["pid"]):
        return {"state": "stopped", "pid": None, "current": None, "stale_since": heartbeat}
    silent = now - heartbeat
    if silent <= SILENT_SECONDS:
        return {"stale_since": None}
    problem = {"what": f"has not answered for {silent:.0f} s", "where": "daemon", "since": heartbeat}
    return {"state": "degraded", "stale_since": heartbeat, "problems": [problem, *written["problems"]]}


def _is_daemon(pid: Any) -> bool:
    """Whether a process of that number lives and, where /proc tells, is one of ours."""
    if not isinstance(pid, int):
        return False
    try:
        return b"invokeai" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        pass
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _count_new(root: Root) -> int:
    """Drops that are not taken in yet."""
    with os.scandir(root.inbox) as entries:
        return sum(1 for entry in entries if _is_drop(entry))


def _is_drop(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name in STATES:
        return False
    return entry.name.lower().endswith(DROP_SUFFIXES) or entry.is_dir()


def _explained(spool: Spool, state: str) -> list[dict[str, Any]]:
    """The newest jobs of a state, each with the beginning of what is written beside it."""
    newest = heapq.nlargest(EXPLAINED, spool.jobs(state), key=changed)
    return [{"job": ticket.id, "why": summary(spool.note(ticket)), "since": changed(ticket)} for ticket in newest]


def changed(ticket: Ticket) -> float:
    """When a job came into its state: a rename changes this time of a file, and not the one of its content."""
    try:
        return ticket.path.stat().st_ctime
    except FileNotFoundError:
        return 0.0


def summary(text: str) -> str:
    """The first two lines that say something: what happened, and the first reason."""
    said = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(said[:2]) or "no reason is written"


def job(root: Root, name: str) -> dict[str, Any]:
    """One job by its id or a unique start of it: `job state file why progress pictures`.

    Its state is one of the inbox's folders, or new, or unknown when no folder has it.
    """
    spool = Spool(root)
    ticket = spool.find(name) or _new(root, name)
    if ticket is None:
        why = f"no job, or more than one, has this name in {root.inbox}"
        return {"job": name, "state": "unknown", "file": "", "why": why, "progress": None, "pictures": []}
    return {
        "job": ticket.id,
        "state": ticket.state,
        "file": str(ticket.path),
        "why": spool.note(ticket).strip(),
        "progress": _progress(root, ticket.id) if ticket.state == "running" else None,
        "pictures": pictures(root, ticket.id),
    }


def _new(root: Root, name: str) -> Ticket | None:
    paths = (folder / f"{name}{suffix}" for folder in (root.inbox, root.inbox / name) for suffix in DROP_SUFFIXES)
    return next((Ticket(name, "new", path) for path in paths if path.exists()), None)


def _progress(root: Root, job_id: str) -> dict[str, Any] | None:
    current = _read(root.status_file).get("current")
    return current if current and current.get("job") == job_id else None


def pictures(root: Root, job_id: str) -> list[str]:
    """The pictures of a job so far, in order."""
    try:
        with os.scandir(root.outputs / job_id) as entries:
            return sorted(entry.path for entry in entries if entry.name.endswith(".png") and entry.name[0] != ".")
    except FileNotFoundError:
        return []
