"""Memory: what is tried when the device has too little of it, rung by rung, and remembered per model and size.

Fewer images share a forward; the rows of one image are computed one after the other; the VAE works in tiles; the layers
of the text encoders, then of the whole model, come from the disk for their own forward. Each rung costs time and none
changes the picture much; a picture says which were needed. Called by the renderer. Never touches a tensor.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from invokeai_daemon.files import write_atomically
from invokeai_daemon.job.plan import Image, ModelRef

#: What was being done when memory ran out.
Doing = Literal["load", "denoise", "vae"]
#: Situations that are remembered; the oldest are forgotten.
REMEMBERED = 500


class Streamed(IntEnum):
    """Which layers of a model come from the disk for their own forward."""

    NOTHING = 0
    #: Those of the text encoders, which are needed once for each prompt.
    TEXTS = 1
    ALL = 2


@dataclass(frozen=True)
class Easing:
    """How images of one model and size are rendered, so that they fit."""

    #: How many may share a forward; 0 where memory never ran out.
    lanes: int = 0
    #: The rows of an image are computed one after the other.
    sequential: bool = False
    #: The VAE works in tiles.
    tiled: bool = False
    streamed: Streamed = Streamed.NOTHING

    @property
    def words(self) -> list[str]:
        """What was done, for the result; empty where nothing was."""
        return list(self._words())

    def _words(self) -> Iterator[str]:
        if self.lanes:
            yield f"{self.lanes} at a time" if self.lanes > 1 else "one at a time"
        if self.sequential:
            yield "guidance one row after the other"
        if self.tiled:
            yield "VAE in tiles"
        if self.streamed is Streamed.TEXTS:
            yield "text encoders from the disk"
        elif self.streamed is Streamed.ALL:
            yield "layers from the disk"


class Memory:
    """The rungs that each model and size needs, kept in a file."""

    def __init__(self, file: Path | None, device: Mapping[str, Any]) -> None:
        """`device` is what the rungs depend on besides model and size; with another one, all are forgotten."""
        self._file, self._device = file, dict(device)
        self._known: dict[str, Easing] = self._read()
        self._changing = threading.Lock()

    def easing(self, model: ModelRef, image: Image) -> Easing:
        """How an image of a model is rendered."""
        return self._known.get(_key(model, image), Easing())

    def climb(self, model: ModelRef, image: Image, doing: Doing, lanes: int = 1) -> bool:
        """The next rung, after memory ran out with so many lanes in a forward. False when there is none."""
        with self._changing:
            now = self._known.get(_key(model, image), Easing())
            for rung in RUNGS[doing]:
                eased = rung(now, lanes)
                if eased != now:
                    self._remember(_key(model, image), eased)
                    return True
            return False

    def _remember(self, key: str, eased: Easing) -> None:
        others = [(each, easing) for each, easing in self._known.items() if each != key]
        # At once, since another thread may ask meanwhile.
        self._known = dict([*others, (key, eased)][-REMEMBERED:])
        if self._file is not None:
            said = {"device": self._device, "needed": {key: asdict(each) for key, each in self._known.items()}}
            # Without the file the same rungs are found again.
            with suppress(OSError):
                write_atomically(self._file, json.dumps(said, indent=1), durable=False)

    def _read(self) -> dict[str, Easing]:
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            said = json.loads(self._file.read_bytes()) if self._file is not None else {}
            if said.get("device") == self._device:
                return {key: _easing(each) for key, each in said["needed"].items()}
        return {}


def _fewer_lanes(now: Easing, lanes: int) -> Easing:
    return replace(now, lanes=lanes // 2) if lanes > 1 else now


def _sequential(now: Easing, lanes: int) -> Easing:
    return replace(now, lanes=1, sequential=True)


def _tiled(now: Easing, lanes: int) -> Easing:
    return replace(now, tiled=True)


def _without_texts(now: Easing, lanes: int) -> Easing:
    return replace(now, streamed=max(now.streamed, Streamed.TEXTS))


def _streamed(now: Easing, lanes: int) -> Easing:
    return replace(now, streamed=Streamed.ALL)


#: What is tried, the cheapest first.
RUNGS: Mapping[Doing, tuple[Any, ...]] = MappingProxyType(
    {
        "load": (_without_texts, _streamed),
        "denoise": (_fewer_lanes, _sequential, _without_texts, _streamed),
        "vae": (_tiled, _without_texts, _streamed),
    }
)


def _easing(said: Mapping[str, Any]) -> Easing:
    return Easing(**{**said, "streamed": Streamed(said["streamed"])})


def _key(model: ModelRef, image: Image) -> str:
    return f"{model.hash or model.path} {image.width}×{image.height}"
