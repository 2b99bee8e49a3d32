"""Logs: one line per event on standard error, fit for the journal; JSON lines for machines.

Every other module logs with `events.info("job.done", job=…)`: an event name and its facts. What users named (files,
prompts) is printed with its control characters escaped, so that one event stays one line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any, TextIO

_LOGGER = logging.getLogger("invokeai_daemon")
#: What the journal understands at the start of a line.
_SYSLOG = {logging.ERROR: "<3>", logging.WARNING: "<4>", logging.INFO: "<6>", logging.DEBUG: "<7>"}


def set_up(log_format: str = "text", stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Send the daemon's events, and warnings of libraries, to `stream`. `log_format` is "text" or "json"."""
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text(for_journal="JOURNAL_STREAM" in os.environ))
    logging.raiseExceptions = False
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level)


class _Handler(logging.StreamHandler[TextIO]):
    """A full or closed log never stops the daemon."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        pass


class _Text(logging.Formatter):
    def __init__(self, for_journal: bool) -> None:
        super().__init__(datefmt="%Y-%m-%d %H:%M:%S")
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{key}={_shown(value)}" for key, value in getattr(record, "facts", {}).items())
        line = f"{record.getMessage()} {facts}".rstrip()
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        if self._for_journal:
            return _SYSLOG.get(record.levelno, "<6>") + line
        return f"{self.formatTime(record, self.datefmt)} {record.levelname.lower():7} {line}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": record.created, "level": record.levelname.lower(), "event": record.getMessage()}
        entry.update(getattr(record, "facts", {}))
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    text = str(value)
    if text.isprintable() and text and " " not in text and '"' not in text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


class Events:
    """Logs an event and its facts."""

    def info(self, event: str, **facts: Any) -> None:
        _LOGGER.info(event, extra={"facts": facts})

    def warning(self, event: str, **facts: Any) -> None:
        _LOGGER.warning(event, extra={"facts": facts})

    def error(self, event: str, **facts: Any) -> None:
        _LOGGER.error(event, extra={"facts": facts})

    def debug(self, event: str, **facts: Any) -> None:
        _LOGGER.debug(event, extra={"facts": facts})

    def exception(self, event: str, **facts: Any) -> None:
        """With the traceback of the exception that is being handled."""
        _LOGGER.error(event, extra={"facts": facts}, exc_info=True)


events = Events()
