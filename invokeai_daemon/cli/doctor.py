"""`doctor`: looks at the machine and the root, and says how to fix what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from invokeai_daemon.cli.options import with_root
from invokeai_daemon.cli.screen import GREEN, RED, YELLOW, Line, gigabytes, paint
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.root import Root

COLOURS = {"ok": GREEN, "note": YELLOW, "wrong": RED}
#: Watches that a root of a few hundred model folders takes, with room for what else runs.
FEW_WATCHES = 8192
#: An SD-1 checkpoint and its converted copy.
LITTLE_DISK = 10_000_000_000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    #: ok, note (works, could be better) or wrong (will not work)
    state: str
    what: str
    #: How to fix it; empty when it is fine.
    fix: str = ""


@click.command()
@with_root
def doctor(root: Root) -> int:
    """Check the machine, the root, the device and the service. Exits 1 when something is wrong."""
    wrong = False
    for check in CHECKS:
        for finding in check(root):
            wrong = wrong or finding.state == "wrong"
            lines = [Line(finding.state, finding.what, COLOURS[finding.state])]
            lines += [Line("", finding.fix)] if finding.fix else []
            click.echo(paint(lines, colours=sys.stdout.isatty()))
    return int(wrong)


def python_version(root: Root) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("ok", f"Python {version} at {sys.executable}")


def torch_pair(root: Root) -> Iterator[Finding]:
    """torch in a process of its own: it may not import at all, and this one need not pay for it."""
    program = (
        "import torch, torchvision\n"
        "device = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'\n"
        "name = torch.cuda.get_device_name() if device == 'cuda' else device\n"
        "print(torch.__version__, torchvision.__version__, device, name, sep='|')\n"
    )
    asked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding(
            "wrong",
            f"torch and torchvision do not import: {last}",
            "Install both, of one release, from one index: make clean install",
        )
        return
    torch, torchvision, device, name = asked.stdout.strip().split("|")
    yield Finding("ok", f"torch {torch}, torchvision {torchvision}")
    yield from _device(device, name)


def _device(device: str, name: str) -> Iterator[Finding]:
    if device != "cpu":
        yield Finding("ok", f"device {device}: {name}")
    elif Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        yield Finding(
            "wrong",
            "an NVIDIA card is there, but torch sees none",
            "Is the driver loaded (nvidia-smi) and is torch a CUDA build?",
        )
    else:
        yield Finding("note", "device cpu: no accelerator was found; pictures take minutes instead of seconds")


def settings(root: Root) -> Iterator[Finding]:
    from invokeai_daemon.settings import load_settings

    try:
        load_settings(root.settings_file)
    except DaemonError as error:
        yield Finding("wrong", f"the settings are unusable: {error}", f"Edit {root.settings_file}.")
        return
    yield Finding("ok", f"settings of {root.settings_file}")


def folders(root: Root) -> Iterator[Finding]:
    """Every folder of the root can be written, and the states of a job share a file system."""
    there = [folder for folder in root.folders() if folder.is_dir()]
    closed = [folder for folder in there if not os.access(folder, os.R_OK | os.W_OK | os.X_OK)]
    for folder in closed:
        yield Finding("wrong", f"{folder} cannot be read and written by {_me()}", f"sudo chown -R {_me()} {folder}")
    if missing := sorted({str(folder) for folder in root.folders()} - {str(folder) for folder in there}):
        fix = f"invokeai-daemon init {root.path} makes them; so does a start of the daemon."
        yield Finding("note", f"missing folders: {', '.join(missing)}", fix)
    if len({folder.stat().st_dev for folder in there if folder.is_relative_to(root.inbox)}) > 1:
        fix = "Keep inbox/ and its folders on one."
        yield Finding("note", "inbox/ spans several file systems, so moves of jobs are copies", fix)
    if not closed:
        yield Finding("ok", f"root {root.path}")


def disk(root: Root) -> Iterator[Finding]:
    free = shutil.disk_usage(root.path).free
    if free < LITTLE_DISK:
        yield Finding(
            "note", f"{gigabytes(free)} free on disk", "A converted model takes as much room as its checkpoint."
        )
    else:
        yield Finding("ok", f"{gigabytes(free)} free on disk")


def inotify(root: Root) -> Iterator[Finding]:
    limit = Path("/proc/sys/fs/inotify/max_user_watches")
    if not limit.exists():
        return
    watches = int(limit.read_text())
    if watches < FEW_WATCHES:
        yield Finding(
            "note", f"this machine allows {watches} inotify watches", "sudo sysctl fs.inotify.max_user_watches=524288"
        )
    else:
        yield Finding("ok", f"{watches} inotify watches allowed")


def daemon(root: Root) -> Iterator[Finding]:
    import time

    from invokeai_daemon.cli import snapshot

    taken = snapshot.take(root, time.time())
    if taken["state"] == "stopped":
        fix = f"invokeai-daemon run --root {root.path}, or: invokeai-daemon service install"
        yield Finding("note", "the daemon is not running", fix)
        return
    state = "ok" if taken["state"] == "running" else "note"
    yield Finding(state, f"the daemon is {taken['state']}, pid {taken['pid']}")
    for problem in taken["problems"]:
        yield Finding("note", f"{problem.get('where', '')} {problem['what']}".strip())


def unit(root: Root) -> Iterator[Finding]:
    from invokeai_daemon.cli.service import unit_path

    installed = [path for path in (unit_path(system=False), unit_path(system=True)) if path.exists()]
    for path in installed:
        yield from _unit_state(path, root)
    if not installed:
        yield Finding(
            "note", "no service is installed", "invokeai-daemon service install starts the daemon at every boot"
        )


def _unit_state(path: Path, root: Root) -> Iterator[Finding]:
    text = path.read_text(encoding="utf-8")
    if str(Path(sys.executable)) not in text or str(root.path) not in text:
        yield Finding(
            "note", f"{path} is about another root or another installation", "invokeai-daemon service install"
        )
    else:
        yield Finding("ok", f"service {path}")


def _me() -> str:
    import getpass

    return getpass.getuser()


CHECKS: tuple[Callable[[Root], Iterator[Finding]], ...] = (
    python_version,
    torch_pair,
    settings,
    folders,
    disk,
    inotify,
    daemon,
    unit,
)
