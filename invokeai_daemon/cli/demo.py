"""`demo`: from nothing to a picture, through the same folders and the same daemon as everything else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import click

from invokeai_daemon import files
from invokeai_daemon.cli import snapshot
from invokeai_daemon.cli.follow import POLL_SECONDS, report, show, stages
from invokeai_daemon.cli.init import make_root
from invokeai_daemon.cli.submit import drop
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.root import Root

#: What the package brings: a checkpoint as it comes from the net, and the sidecar with its defaults.
DATA = resources.files("invokeai_daemon") / "data"
SIDECAR, CHECKPOINT = "demo.toml", "demo.safetensors"
#: The log of the demo's daemon, in the root.
LOG = "daemon.log"
STOP_SECONDS = 30.0

JOB = """\
#:schema ../configs/job.schema.json
# An example: change a line and drop the file into inbox/ again.
model = "demo"
prompt = "a red circle on a blue background"
seed = 42
iterations = 4
"""


class DemoError(DaemonError):
    """The demo could not be shown."""


@click.command()
@click.argument("directory", default="demo", type=click.Path(file_okay=False, path_type=Path))
def demo(directory: Path) -> int:
    """Make a scratch root in DIRECTORY (default: ./demo), import the bundled model and render an example job."""
    root = Root(directory.absolute())
    make_root(root)
    click.echo(f"The root: {root.path}")
    with running_daemon(root) as child:
        show(_while_it_runs(_starting(root, child), child, root))
        drop_model(root)
        job = drop(root, "red-circle", ".toml", JOB.encode()).stem
        click.echo(f"Dropped {CHECKPOINT} into autoimport/main/ and {job}.toml into inbox/")
        show(_while_it_runs(stages(root, job), child, root))
        code = report(snapshot.job(root, job))
    if code == 0:
        click.echo(next_steps(directory, job))
    return code


@contextmanager
def running_daemon(root: Root) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that serves the root as a child of this process, its log in `.state/`; stopped at the end."""
    signal.signal(signal.SIGTERM, _interrupt)
    with (root.state / LOG).open("ab") as log:
        child = _start(root, log)
        try:
            yield child
        finally:
            _stop(child)


def _interrupt(number: int, frame: object) -> None:
    """A SIGTERM ends the demo like Ctrl-C does: with its daemon."""
    raise KeyboardInterrupt


def _start(root: Root, log: BinaryIO) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "invokeai_daemon", "run", "--root", str(root.path)]
    # The example job is picture enough.
    environment = {**os.environ, "INVOKEAI_DAEMON_IMPORT_THUMBNAILS": "false"}
    # A session of its own: Ctrl-C reaches this process, which then stops the daemon in order.
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(STOP_SECONDS)
        return
    child.kill()
    child.wait()


def _starting(root: Root, child: subprocess.Popen[bytes]) -> Iterator[str]:
    """Until the daemon has looked at its folders: then what is dropped is noticed at once."""
    while snapshot.take(root, time.time())["pid"] != child.pid:
        yield "starting the daemon"
        time.sleep(POLL_SECONDS)


def drop_model(root: Root) -> None:
    """Copy the bundled checkpoint as a user would, its sidecar first. A second demo finds it there."""
    for name in (SIDECAR, CHECKPOINT):
        target = root.autoimport / "main" / name
        if not target.exists():
            files.write_atomically(target, (DATA / name).read_bytes())


def _while_it_runs(words: Iterator[str], child: subprocess.Popen[bytes], root: Root) -> Iterator[str]:
    """The stages of a job, as long as the daemon lives."""
    for stage in words:
        yield stage
        if child.poll() is not None:
            log = root.state / LOG
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise DemoError("\n".join([f"the daemon ended with code {child.returncode}. Its log, {log}, ends:", *last]))


def next_steps(directory: Path, job: str) -> str:
    program = Path(sys.argv[0])
    name = program if program.name == "invokeai-daemon" and program.parent.name == "bin" else "invokeai-daemon"
    return f"""
What to try next:
  {name} run --root {directory} &
  {name} submit --root {directory} --wait "a yellow star on a green background" -n 4
  {name} status --root {directory}
  {name} metadata {directory}/outputs/{job}/*.png
Drop your own checkpoint into {directory}/autoimport/main/, and jobs into {directory}/inbox/."""
