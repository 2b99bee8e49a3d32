"""Outcomes: jobs that end, and the people who are told: files beside the job, the log, the hook, the counts.

Called wherever a job is found done, failed or cancelled. Decides nothing.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from invokeai_daemon.daemon.active import Active
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.errors import JobError
from invokeai_daemon.root import Root
from invokeai_daemon.spool.spool import Spool, Ticket

#: Images whose errors an error file lists.
MOST_LISTED = 50
#: What to do about a job that was not run, and about a picture, whose metadata nobody corrects by hand.
ADVICE = "Correct this and move the file back to inbox/."
PICTURE_ADVICE = (
    "Write a job that says what you want instead: `invokeai-daemon metadata` prints what the picture records."
)


class Outcomes:
    """The ends of jobs. `counts` are those of done and failed jobs in the spool."""

    def __init__(self, root: Root, spool: Spool, notifier: Notifier) -> None:
        self._root, self._spool, self._notifier = root, spool, notifier
        self.counts = {"done": 0, "failed": 0}

    def recount(self) -> None:
        for state in self.counts:
            self.counts[state] = self._spool.count(state)

    def reject(self, path: Path, stem: str, error: str) -> None:
        """A drop is no job."""
        self._tell_failed(self._spool.reject(path, stem, error), error)

    def fail(self, ticket: Ticket, error: str) -> None:
        """A job cannot be run, or not all of it could."""
        with suppress(FileNotFoundError):
            self._tell_failed(self._spool.fail(ticket, error), error)

    def end(self, active: Active) -> None:
        """All images of a job are published or failed."""
        if active.failures:
            self.fail(active.ticket, failed_text(active))
            return
        try:
            self._spool.finish(active.ticket)
        except FileNotFoundError:
            events.info("job.removed", job=active.id, state="running")
            return
        self.counts["done"] += 1
        events.info("job.done", job=active.id, images=len(active.plan.images))
        self._notifier.tell("job_done", job=active.id, folder=str(active.results.folder))

    def cancel(self, active: Active) -> None:
        """The user removed the file of a running job."""
        self._spool.forget(active.ticket)
        with suppress(OSError):
            if active.results.folder.is_dir():
                active.results.finish(active.plan, active.outcomes.values())
        events.info("job.cancelled", job=active.id)

    def shown(self, path: Path) -> str:
        """A path as messages name it: from the root on, without what could disturb a terminal."""
        text = str(path.relative_to(self._root.path)) if path.is_relative_to(self._root.path) else str(path)
        return text if text.isprintable() else ascii(text)[1:-1]

    def _tell_failed(self, ticket: Ticket, error: str) -> None:
        self.counts["failed"] += 1
        events.warning("job.failed", job=ticket.id, error=" ".join(error.split())[:500])
        self._notifier.tell("job_failed", job=ticket.id, error=error)


def explained(shown: str, error: JobError) -> str:
    """The text of an error file: what is wrong, in the order of the lines, and what to do."""
    count = len(error.problems)
    lines = [f"{shown} was not run: {count} problem{'s' if count != 1 else ''}.", ""]
    lines += [f"  {problem}" for problem in error.problems]
    return "\n".join([*lines, "", PICTURE_ADVICE if shown.lower().endswith(".png") else ADVICE])


def failed_text(active: Active) -> str:
    """The text of the error file of a job some of whose images failed."""
    failures, count = active.failures, len(active.plan.images)
    lines = [f"{active.id} failed: {len(failures)} of {count} images could not be rendered.", ""]
    lines += [f"  image {outcome.number}: {outcome.error}" for outcome in failures[:MOST_LISTED]]
    if len(failures) > MOST_LISTED:
        lines.append(f"  and {len(failures) - MOST_LISTED} more")
    done = count - len(failures)
    where = f" The other {done} are in outputs/{active.plan.job_id}/." if done else ""
    return "\n".join([*lines, "", f"Move the file back to inbox/ to try these again.{where}"])
