"""`jobs`: the same as looking into the inbox's folders and moving files there by hand."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from invokeai_daemon.cli import screen, snapshot
from invokeai_daemon.cli.options import json_option, with_root
from invokeai_daemon.cli.roots import shown
from invokeai_daemon.errors import DaemonError
from invokeai_daemon.root import STATES, Root
from invokeai_daemon.spool.spool import Spool, Ticket

#: States in the order in which they matter to somebody who looks.
SHOWN_STATES = ("running", "queued", "waiting", "failed", "done")
FEW = 20


class JobCommandError(DaemonError):
    """The command does not fit the job."""


@click.group()
def jobs() -> None:
    """The jobs of the inbox: list, show, cancel, retry."""


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only these.")
@click.option("--all", "everything", is_flag=True, help=f"Every job; without, the last {FEW} done and failed ones.")
@json_option
@with_root
def list_(root: Root, state: str | None, everything: bool, as_json: bool) -> None:
    """List jobs: running, queued in running order, waiting, failed, done."""
    rows = [row for shown_state in ([state] if state else SHOWN_STATES) for row in _rows(root, shown_state, everything)]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    for row in rows:
        when = screen.moment(row.since, time.time())
        click.echo(f"{row.state:8} {when:>16}  {row.job}{'  ' if row.why else ''}{row.why}".rstrip())
    if not rows:
        hint = "Drop one into inbox/, or: invokeai-daemon submit 'a lighthouse at dusk'"
        click.echo(f"No {state} jobs." if state else f"No jobs. {hint}")


@dataclass(frozen=True)
class Row:
    """One job in a list."""

    job: str
    state: str
    #: When it came into this state, in seconds since 1970.
    since: float
    priority: int
    #: In short, why it waits or failed; empty for others.
    why: str
    file: str


def _rows(root: Root, state: str, everything: bool) -> list[Row]:
    spool = Spool(root)
    rows = [_row(spool, ticket) for ticket in spool.jobs(state)]
    if state == "queued":
        return rows
    rows.sort(key=lambda row: row.since)
    return rows if everything or state not in ("done", "failed") else rows[-FEW:]


def _row(spool: Spool, ticket: Ticket) -> Row:
    why = snapshot.summary(spool.note(ticket)) if ticket.state in ("waiting", "failed") else ""
    return Row(ticket.id, ticket.state, snapshot.changed(ticket), ticket.priority, why, str(ticket.path))


@jobs.command()
@click.argument("job")
@json_option
@with_root
def show(root: Root, job: str, as_json: bool) -> int:
    """Show one JOB: its state, what it asks, why it waits or failed, its pictures."""
    facts = snapshot.job(root, job)
    if facts["state"] == "unknown":
        raise JobCommandError(f"{job}: {facts['why']}. See: invokeai-daemon jobs list --all")
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    click.echo(screen.paint(screen.job_lines(facts), colours=False))
    click.echo()
    click.echo(_text(facts["file"]))
    return 0


def _text(path: str) -> str:
    if not path.endswith((".toml", ".txt")):
        return f"({path} is a picture: invokeai-daemon metadata {path})"
    return Path(path).read_text(encoding="utf-8", errors="replace").rstrip()


@jobs.command()
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@with_root
def cancel(root: Root, names: tuple[str, ...]) -> None:
    """Remove queued, waiting or running JOBs. Pictures that exist stay."""
    spool = Spool(root)
    for ticket in [_ticket(spool, name) for name in names]:
        if ticket.state not in ("queued", "waiting", "running"):
            raise JobCommandError(f"{ticket.id} is {ticket.state}: there is nothing to cancel.")
        spool.cancel(ticket)
        click.echo(f"Cancelled {ticket.id}, which was {ticket.state}.")


@jobs.command()
@click.argument("names", nargs=-1, required=True, metavar="JOB...")
@with_root
def retry(root: Root, names: tuple[str, ...]) -> None:
    """Move failed JOBs back into the inbox; they go on at the first picture that is not there."""
    spool = Spool(root)
    for ticket in [_ticket(spool, name) for name in names]:
        if ticket.state == "done":
            raise JobCommandError(
                f"{ticket.id} is done. For the same pictures again: invokeai-daemon submit outputs/{ticket.id}/job.toml"
            )
        if ticket.state != "failed":
            raise JobCommandError(f"{ticket.id} is {ticket.state}: only failed jobs are tried again.")
        click.echo(f"Moved to {shown(spool.retry(ticket), root)}.")


def _ticket(spool: Spool, name: str) -> Ticket:
    ticket = spool.find(name)
    if ticket is None:
        raise JobCommandError(f"No job, or more than one, is called {name}. See: invokeai-daemon jobs list --all")
    return ticket
