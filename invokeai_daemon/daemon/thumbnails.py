"""Thumbnails: one small test picture of each new main model, made when there is nothing else to do. Called by the loop.

It shows what a model paints, and that it paints at all: a failure becomes a warning on the model's entry. The order
goes straight to the renderer, never through the inbox; a job that arrives goes first. What is tried is noted on disk
before, so that a model that brings the renderer down does so once.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon import files
from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.supervise import Death, Worker
from invokeai_daemon.errors import ModelError
from invokeai_daemon.job.plan import Image, ModelRef, Plan
from invokeai_daemon.job.usual import Usual, usual
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.workers.protocol import Message

#: No job has this name: those of files never begin with a dot.
JOB = ".thumbnail"
PROMPT = "a lake in front of mountains, in the morning"
SEED, STEPS = 42, 12
#: Smallest side, and what sides are a multiple of, in pixels.
SIDE = 64
#: How a warning of the renderer begins that says that the picture shows nothing.
NOTHING_SHOWN = ("the model produced values that are no numbers", "the picture is one flat colour")
FAILED = "the test picture failed: "


@dataclass(frozen=True)
class _Test:
    """The picture that is being made."""

    key: str
    entry: Entry


class Thumbnails:
    """The test pictures of one root's models."""

    def __init__(self, root: Root, registry: Registry, worker: Worker) -> None:
        self._root, self._registry, self._worker = root, registry, worker
        self._folder = root.state / "thumbnails"
        #: What came of each test, by the content of the model: nothing when it went well, "begun", or why it failed.
        self._tried: dict[str, str] = _read(self._folder / "tried.json")
        self._test: _Test | None = None
        #: The registry may say something else than at the last look.
        self.is_stale = True

    def begin(self) -> None:
        """There is nothing else to do: test a model that was not tested yet, if there is one."""
        if self._test is not None or not self.is_stale:
            return
        entry = next((entry for entry in self._registry.models() if self._is_wanted(entry)), None)
        if entry is None:
            self.is_stale = False
            return
        self._test = _Test(_key(entry), entry)
        self._note("begun")
        # One that is left over from a lost note would stay in place of the new one.
        (self._folder / f"{self._test.key}.png").unlink(missing_ok=True)
        plan = _plan(entry, self._test.key)
        order = {"order": "render", "plan": plan.as_json(), "images": [1], "folder": str(self._folder), "alone": True}
        self._worker.send(order)
        events.debug("model.test_begun", name=entry.name)

    def give_way(self) -> None:
        """A job has come: the test is made later."""
        if self._test is not None:
            self._worker.send({"order": "cancel", "job": JOB})
            self.release()

    def release(self) -> None:
        """The renderer works on it no longer, through no fault of the model."""
        if self._test is not None:
            self._note(None)
            self._test, self.is_stale = None, True

    def take(self, message: Message) -> bool:
        """Whether an event of the renderer was about a test picture."""
        if message.get("job") != JOB:
            return False
        if self._test is not None and message.get("event") == "published":
            self._published(str(message["file"]), [str(warning) for warning in message.get("warnings", ())])
        elif self._test is not None and message.get("event") == "image_failed":
            self._fail(str(message.get("error", "no reason was given")))
        return True

    def mourn(self, death: Death) -> None:
        """The renderer died."""
        if death.is_foreign:
            self.release()
        elif self._test is not None:
            self._fail(f"the renderer died over it: {death}")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _is_wanted(self, entry: Entry) -> bool:
        if entry.status != "ok" or not entry.is_renderable_from_text or not entry.source:
            return False
        before = self._tried.get(_key(entry), self._tried.get(_key_of_place(entry)))
        if before and before != "begun" and FAILED not in entry.reason:
            # It was imported again, which wrote its entry anew.
            self._warn(entry, before)
        return before is None

    def _published(self, file: str, warnings: list[str]) -> None:
        assert self._test is not None
        shown = next((warning for warning in warnings if warning.startswith(NOTHING_SHOWN)), None)
        if shown is not None:
            (self._folder / file).unlink(missing_ok=True)
            self._fail(shown)
            return
        entry = self._test.entry
        self._note("")
        self._test = None
        now = self._registry.get(entry.name)
        if now is not None and not now.cover_image:
            self._update(entry, {"cover_image": str(self._folder / file)})
        events.info("model.tested", name=entry.name, picture=self._folder / file)

    def _fail(self, why: str) -> None:
        assert self._test is not None
        entry = self._test.entry
        self._note(why)
        self._test = None
        self._warn(entry, why)

    def _warn(self, entry: Entry, why: str) -> None:
        events.warning("model.test_failed", name=entry.name, reason=why)
        now = self._registry.get(entry.name) or entry
        self._update(entry, {"reason": "; ".join(filter(None, (now.reason, FAILED + why)))})

    def _update(self, entry: Entry, changes: dict[str, str]) -> None:
        try:
            self._registry.update_many({entry.name: changes}, derived=True)
        except (ModelError, OSError) as error:
            events.error("registry.not_changed", reason=str(error))

    def _note(self, outcome: str | None) -> None:
        assert self._test is not None
        if outcome is None:
            self._tried.pop(self._test.key, None)
        else:
            self._tried[self._test.key] = outcome
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            files.write_atomically(self._folder / "tried.json", json.dumps(self._tried, indent=0))


def _key(entry: Entry) -> str:
    """A file name for the content of a model; for its place and time where the content was not hashed yet."""
    digits = entry.hash.removeprefix("blake3:")
    return digits[:32] if digits.isalnum() else _key_of_place(entry)


def _key_of_place(entry: Entry) -> str:
    try:
        when = Path(entry.path).stat().st_mtime_ns
    except OSError:
        when = 0
    return hashlib.sha256(f"{entry.path}\0{when}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _plan(entry: Entry, key: str) -> Plan:
    """The plan of a test picture: half as wide as usual, in few steps."""
    known = usual(entry.base, entry.variant, entry.prediction_type)
    width, height = (_side(entry, name, known) for name in ("width", "height"))
    scheduler, steps = str(entry.default_settings.get("scheduler", "euler")), min(STEPS, known.steps)
    image = Image(1, SEED, PROMPT, "", width, height, steps, known.cfg_scale, scheduler, guidance=known.guidance)
    model = ModelRef(entry.name, entry.path, entry.base, entry.type, entry.hash, entry.variant, entry.prediction_type)
    return Plan(JOB, model, (image,), priority=-1000, file_name=f"{key}.png")


def _side(entry: Entry, name: str, known: Usual) -> int:
    side = entry.default_settings.get(name, known.side)
    return max(SIDE, side // 2 // SIDE * SIDE) if isinstance(side, int) else 4 * SIDE


def _read(file: Path) -> dict[str, str]:
    try:
        tried = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(key): str(why) for key, why in tried.items()} if isinstance(tried, dict) else {}
