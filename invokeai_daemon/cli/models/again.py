"""Importing a registered model again: one order to a confined importer, and its answer into the registry.

For `models convert` and `models reidentify`. What the user wrote into models.yaml stays, as at every import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.models.report import ModelCommandError
from invokeai_daemon.models.convert.store import read_marker
from invokeai_daemon.models.entries.contents import is_in_place, origin, sources_of
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import ImportSettings
from invokeai_daemon.workers.ask import Importer
from invokeai_daemon.workers.protocol import Message


@dataclass(frozen=True)
class Again:
    """What is needed to import models of one root again."""

    root: Root
    registry: Registry
    importer: Importer
    settings: ImportSettings

    def asked(self, entry: Entry, wishes: Mapping[str, Any]) -> Message:
        """The importer's answer about the file that a model came from. Raises ModelCommandError when it is gone."""
        source = next((source for source in sources_of(entry) if os.path.lexists(source)), None)
        if source is None:
            raise ModelCommandError(f"{entry.name}: {entry.source or entry.path or 'its file'} is not there.")
        order = {"order": "import", "path": source, "root": str(self.root.path), **self._as_made(entry), **wishes}
        return self.importer.ask(order, on_event=_show_progress, timeout=self.settings.timeout_seconds)

    def register(self, entry: Entry, found: Entry) -> Entry:
        """Renew an entry with what was found; also when that was found in another file of the same content.

        How it was converted stays when the daemon looks at the file again.
        """
        if found.source in entry.aliases:
            found = replace(found, source=origin(entry))
        return self.registry.find(self.registry.add(found, chosen=True))

    def _as_made(self, entry: Entry) -> dict[str, Any]:
        """How its converted copy was made, else as the settings and an older stanza say."""
        marker = None if is_in_place(entry) else read_marker(Path(entry.path))
        options = (marker or {}).get("options") or {}
        vae = entry.vae if entry.vae and Path(entry.vae).is_file() else None
        return {
            "use_ema": options.get("use_ema", self.settings.use_ema),
            "dtype": options.get("dtype", self.settings.dtype),
            "vae": options.get("parts", {}).get("vae", vae),
        }


def _show_progress(event: Message) -> None:
    if event.get("event") == "progress" and sys.stderr.isatty():
        click.echo(f"{100 * event['done'] // max(1, event['of'])} %\r", nl=False, err=True)
