"""`models identify`: what files and folders are, without registering them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.models.report import print_json, shortened, table
from invokeai_daemon.cli.options import json_option
from invokeai_daemon.models.identity import Verdict

Judge = Callable[[Path], Verdict]


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@json_option
def identify(paths: tuple[Path, ...], as_json: bool) -> int:
    """Say what the model files or folders PATH are, and why. Exits 1 when one is not known."""
    with judging() as judged:
        verdicts = [judged(path.absolute()) for path in paths]
    if as_json:
        facts = [verdict_json(verdict) for verdict in verdicts]
        print_json(
            facts[0] if len(facts) == 1 else [{"path": str(path)} | one for path, one in zip(paths, facts, strict=True)]
        )
    else:
        for path, verdict in zip(paths, verdicts, strict=True):
            if len(paths) > 1:
                click.echo(f"{shortened(str(path), None)}:")
            _print_verdict(verdict)
    return 0 if all(verdict.state in ("ok", "unusable") for verdict in verdicts) else 1


@contextmanager
def judging() -> Iterator[Judge]:
    """Says what files are, each looked at by one confined child that can write nothing."""
    from invokeai_daemon.workers.ask import Importer, verdict_of

    with Importer() as importer:
        yield lambda path: verdict_of(importer.ask({"order": "identify", "path": str(path)}))


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    facts = verdict.identity.as_json()
    nearest = [{"family": name, "why": why} for name, why in verdict.nearest]
    if verdict.state == "ok":
        return {**facts, **({"nearest": nearest} if nearest else {})}
    return {**facts, "state": verdict.state, "reason": verdict.reason, "nearest": nearest}


def _print_verdict(verdict: Verdict) -> None:
    identity = verdict.identity
    if verdict.state not in ("ok", "unusable"):
        click.echo(verdict.reason)
        for name, why in verdict.nearest:
            click.echo(f"not {name}: {why}")
        return
    facts = {"type": identity.type, "base": identity.base, "format": identity.format, "variant": identity.variant}
    facts["prediction"] = identity.prediction_type
    facts["dialect"] = identity.dialect
    rows = [(key, value) for key, value in facts.items() if value]
    rows += [("because" if number == 0 else "", fact) for number, fact in enumerate(identity.evidence)]
    rows += [("assumed", what) for what in identity.assumed]
    rows += [("needs", need.why) for need in identity.needs]
    rows += [("unusable", verdict.reason)] if verdict.state == "unusable" else []
    rows += [
        ("ruled out" if number == 0 else "", f"{name}: {why}") for number, (name, why) in enumerate(verdict.nearest)
    ]
    for line in table(rows):
        click.echo(line)
