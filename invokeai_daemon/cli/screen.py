"""The status screen: a snapshot becomes lines, lines become text. Pure functions; light like all of `status`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LABEL_WIDTH = 9
GREEN, YELLOW, RED, PLAIN = "32", "33", "31", ""
STATE_COLOURS = {"running": GREEN, "degraded": YELLOW, "stopped": RED}
JOB_COLOURS = {"done": GREEN, "running": GREEN, "waiting": YELLOW, "failed": RED, "unknown": RED}


@dataclass(frozen=True)
class Line:
    """One line of the screen: a word in colour, and what is to be said about it."""

    label: str
    text: str
    #: The number of an ANSI colour; empty for none.
    colour: str = PLAIN


def paint(lines: Iterable[Line], colours: bool) -> str:
    return "\n".join(_painted(line, colours) for line in lines)


def _painted(line: Line, colours: bool) -> str:
    label = line.label.ljust(LABEL_WIDTH)
    if colours and line.colour:
        label = f"\x1b[{line.colour}m{label}\x1b[0m"
    return f"{label} {_printable(line.text)}".rstrip()


def _printable(text: str) -> str:
    """A text without characters that act on a terminal: the names of files may hold any."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def lines(snapshot: dict[str, Any], now: float) -> list[Line]:
    """The whole screen: first line "is it working", then what it does, then what needs the user."""
    return [
        _state(snapshot, now),
        *_paused(snapshot),
        _queue(snapshot),
        *_reasons("waiting", snapshot["jobs"]["waiting"], snapshot["waiting"], YELLOW),
        *_reasons("failed", snapshot["jobs"]["failed"], snapshot["failed"], RED),
        _models(snapshot),
        *_downloads(snapshot),
        *_watched(snapshot),
        *_device(snapshot),
        Line("disk", f"{gigabytes(snapshot['disk_free'])} free"),
        *(Line("problem", _problem(problem, now), YELLOW) for problem in snapshot["problems"]),
    ]


def _state(snapshot: dict[str, Any], now: float) -> Line:
    state = snapshot["state"]
    return Line(state, _stopped(snapshot, now) if state == "stopped" else _doing(snapshot), STATE_COLOURS[state])


def _stopped(snapshot: dict[str, Any], now: float) -> str:
    since = snapshot["stale_since"]
    seen = f"not running, stale since {moment(since, now)}" if since else "not running, and has not run here yet"
    return f"{seen}. Start it with: invokeai-daemon run --root {snapshot['root']}"


def _doing(snapshot: dict[str, Any]) -> str:
    current = snapshot["current"]
    if not current:
        return f"idle, pid {snapshot['pid']}"
    text = f"job {current['job']}, image {current['image']} of {current['of']}"
    if current.get("steps"):
        text += f", step {current['step']} of {current['steps']}"
    if current.get("eta_s") is not None:
        text += f", about {duration(current['eta_s'])} left"
    return text


def _paused(snapshot: dict[str, Any]) -> list[Line]:
    return [Line("paused", "no new work is started. Go on with: invokeai-daemon resume", YELLOW)] * snapshot["paused"]


def _queue(snapshot: dict[str, Any]) -> Line:
    jobs, images = snapshot["jobs"], snapshot["images"]
    counted = [state for state in ("new", "queued", "running", "done") if jobs[state] or state == "queued"]
    parts = [f"{jobs[state]} {state}" for state in counted]
    if pending := images.get("pending"):
        parts.append(f"{pending} image{'s' if pending > 1 else ''} to do")
    return Line("jobs", ", ".join(parts))


def _reasons(label: str, count: int, reasons: Sequence[dict[str, Any]], colour: str) -> list[Line]:
    """One line per reason; the last says how many are not shown."""
    texts = [f"{reason['job']}: {reason['why']}" for reason in reasons]
    if count > len(reasons):
        texts.append(f"and {count - len(reasons)} more")
    return [Line(label if number == 0 else "", text, colour) for number, text in enumerate(texts)]


def _models(snapshot: dict[str, Any]) -> Line:
    counts = {state: count for state, count in snapshot["models"].items() if count}
    bad = counts.keys() - {"ok", "importing"}
    text = ", ".join(f"{count} {state}" for state, count in counts.items()) or "none: drop one into autoimport/"
    hint = ". Why: invokeai-daemon models list" if bad else ""
    return Line("models", text + hint, YELLOW if bad else PLAIN)


def _downloads(snapshot: dict[str, Any]) -> list[Line]:
    """One line for each that runs; those to come are counted."""
    if snapshot["state"] == "stopped":
        return []
    running = [one for one in snapshot["downloads"] if one["state"] == "running"]
    texts = [_download(one) for one in running]
    if len(snapshot["downloads"]) > len(running):
        texts.append(f"{len(snapshot['downloads']) - len(running)} to come")
    return [Line("download" if number == 0 else "", text) for number, text in enumerate(texts)]


def _download(one: dict[str, Any]) -> str:
    of = f" of {gigabytes(one['of'])}" if one["of"] else ""
    parts = [f"{one['source']}: {gigabytes(one['done'])}{of}"]
    if one["bytes_per_second"]:
        parts.append(f"{one['bytes_per_second'] / 1e6:.1f} MB/s")
    if one["eta_s"] is not None:
        parts.append(f"about {duration(one['eta_s'])} left")
    return ", ".join(parts)


def _watched(snapshot: dict[str, Any]) -> list[Line]:
    if not snapshot["watch"]:
        return []
    folders = [f"{folder['path']} {folder['mode']}" for folder in snapshot["watch"]]
    scans = [folder["last_scan"] for folder in snapshot["watch"] if folder.get("last_scan")]
    last = f", last scan {clock(min(scans))}" if scans else ""
    return [Line("watch", ", ".join(folders) + last)]


def _device(snapshot: dict[str, Any]) -> list[Line]:
    renderer = (snapshot.get("renderer") or {}).get("state", "ready")
    notes = [str(snapshot["device"])] if snapshot["device"] else []
    if snapshot["state"] != "stopped" and renderer != "ready":
        notes.append(f"renderer {renderer}")
    return [Line("device", ", ".join(notes))] if notes else []


def _problem(problem: dict[str, Any], now: float) -> str:
    where = f"{problem['where']}: " if problem.get("where") else ""
    since = f" (since {moment(problem['since'], now)})" if problem.get("since") else ""
    return f"{where}{problem['what']}{since}"


def job_lines(job: dict[str, Any]) -> list[Line]:
    """The status of one job."""
    first = Line(job["state"], job["job"], JOB_COLOURS.get(job["state"], PLAIN))
    details = [Line("", text) for text in job["why"].splitlines()]
    pictures = [Line("picture", path) for path in job["pictures"]]
    return [first, *details, *pictures, *([Line("file", job["file"])] if job["file"] else [])]


def duration(seconds: float) -> str:
    """19 s, 51 min, 2 h 5 min."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * 60:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(when: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(when))


def moment(when: float, now: float) -> str:
    """A time of the last day as a clock shows it; older ones with their date."""
    return clock(when) if now - when < 86400 else time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
