"""Importing: one model looked at, and converted where it can be. Called by the importer, once for each order.

This is where faults end: whatever is wrong with a file becomes a verdict with its reason. Never changes a dropped file,
never writes the registry, never imports torch.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from invokeai_daemon.errors import AmbiguousModel, DiskFull, IncompleteModel, ModelError, UnknownModel
from invokeai_daemon.models.companions import Companions, companions_of
from invokeai_daemon.models.contents import fingerprint
from invokeai_daemon.models.convert import ConvertOptions, convert_model, is_convertible, read_marker
from invokeai_daemon.models.folder_check import refuse_broken_weights
from invokeai_daemon.models.header import Header, read_header
from invokeai_daemon.models.identify import NOTHING, UnusableModel, identify, judge
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.models.install.sources import shown_url
from invokeai_daemon.models.registry import Entry
from invokeai_daemon.models.sidecar import Sidecar, read_sidecar
from invokeai_daemon.models.trained_words import trained_words
from invokeai_daemon.models.units import hub_name
from invokeai_daemon.models.words import said_beside
from invokeai_daemon.root import Root
from invokeai_daemon.workers.confine import order_limits
from invokeai_daemon.workers.parts import parts_for
from invokeai_daemon.workers.pipes import BEAT_SECONDS, Emit
from invokeai_daemon.workers.protocol import Message

log = logging.getLogger("invokeai_daemon.importer")

#: What people call folders of models, beside InvokeAI's own words, with InvokeAI's word for it.
HINTS = {
    "checkpoints": "main",
    "stable-diffusion": "main",
    "loras": "lora",
    "lycoris": "lora",
    "embeddings": "embedding",
    "controlnets": "controlnet",
    "vaes": "vae",
    "upscaler": "spandrel_image_to_image",
    "upscalers": "spandrel_image_to_image",
    "upscale_models": "spandrel_image_to_image",
    "esrgan": "spandrel_image_to_image",
    **dict.fromkeys(("sd1", "sd15", "sd1.5", "sd-1.5", "sd 1.5"), "sd-1"),
    **dict.fromkeys(("sd2", "sd21", "sd2.1", "sd-2.1", "sd 2.1"), "sd-2"),
    **dict.fromkeys(("sd3", "sd35", "sd3.5"), "sd-3"),
    **dict.fromkeys(("xl", "sd-xl", "sdxl 1.0"), "sdxl"),
    **dict.fromkeys(("flux1", "flux.1"), "flux"),
}
#: Failures of the machine, not of the model: the same import may succeed later.
TEMPORARY = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}

#: How much longer than the source a converted file may be: its values widened, and a text encoder from elsewhere.
WIDENED, OTHER_PARTS = 4, 24 * 1024**3


@dataclass
class Import:
    """One order: a path, and the root that it goes into, or None to only say what it is."""

    path: Path
    root: Root | None
    emit: Emit
    #: Compare a converted copy with its source: the daemon is going to delete the source.
    verify: bool = False
    #: The keys `use_ema`, `dtype` and `vae` of an order.
    wishes: dict[str, Any] = field(default_factory=dict)
    #: Processor time that it may take.
    cpu_seconds: float = 600.0
    #: As far as it is known.
    identity: Identity = NOTHING
    #: What the user says of it; None until it was read.
    sidecar: Sidecar | None = None
    #: What a user should know of how the file was read.
    notes: tuple[str, ...] = ()

    def outcome(self) -> Message:
        """The event that ends the order: `imported`, or a `verdict`. Never raises."""
        try:
            with order_limits(self.cpu_seconds, self._longest_file()):
                return self._outcome()
        except UnusableModel as error:
            self.identity = error.identity
            return self._verdict("unusable", str(error), error.nearest)
        except UnknownModel as error:
            return self._verdict("unknown", str(error), error.nearest)
        except AmbiguousModel as error:
            return self._verdict("unknown", str(error), tuple((name, "it fits as well") for name in error.candidates))
        except IncompleteModel as error:
            return self._verdict("unusable" if error.parts else "rejected", str(error))
        except ModelError as error:
            return self._verdict("rejected", str(error))
        except DiskFull as error:
            return self._verdict("rejected", str(error), temporary=True)
        except OSError as error:
            reason = f"{self.path}: {error.strerror or error} ({error.filename or 'while it was read or copied'})."
            return self._verdict("rejected", reason, temporary=error.errno in TEMPORARY)
        except (MemoryError, RecursionError):
            reason = f"{self.path}: looking at it needs more memory than the importer may use ([import] memory_mb)."
            return self._verdict("rejected", reason)
        except Exception as error:
            log.exception("a fault while looking at %s", self.path)
            reason = f"{self.path}: {type(error).__name__}: {error}. This is a fault of invokeai-daemon; see its log."
            return self._verdict("rejected", reason)

    def _outcome(self) -> Message:
        sidecar = self.sidecar = read_sidecar(self.path)
        header = None if self.path.is_dir() else read_header(self.path)
        self.notes = header.notes if header else ()
        if header is None:
            refuse_broken_weights(self.path)
        if self.root is None:
            verdict = judge(header or self.path, sidecar)
            self.identity = verdict.identity
            return self._verdict(verdict.state, verdict.reason, verdict.nearest)
        self.identity = identify(header or self.path, sidecar, self._hint())
        beside = companions_of(self.path)
        own = {"vae"} if self._vae(beside) else set()
        parts = parts_for(self.identity, self.root, own, is_file=header is not None)
        if parts.missing:
            return self._verdict("unusable", f"{self.path}: {'; '.join(parts.missing)}.")
        if header is not None and is_convertible(header, self.identity):
            options = self._options(beside, parts.found)
            return self._converted(header, sidecar, beside, self.root, options)
        notes = header.notes if header is not None else ()
        words = trained_words(header) if header is not None and self.identity.type == "embedding" else ()
        return self._imported(sidecar, beside, self.path, self.identity.format, "", notes, words)

    def _longest_file(self) -> int:
        """Bytes of the longest file that converting it can need: a wider dtype, parts of other files."""
        try:
            return WIDENED * self.path.stat().st_size + OTHER_PARTS
        except OSError:
            return OTHER_PARTS

    def _hint(self) -> str | None:
        """What the folders in autoimport/ suggest, the nearest first: "sdxl/lora"."""
        if self.root is None or not self.path.is_relative_to(self.root.autoimport):
            return None
        folders = [name.lower() for name in self.path.parent.relative_to(self.root.autoimport).parts]
        return "/".join(HINTS.get(name, name) for name in reversed(folders)) or None

    def _options(self, beside: Companions, found: Mapping[str, Path]) -> ConvertOptions:
        return ConvertOptions(
            use_ema=bool(self.wishes.get("use_ema")),
            dtype=self.wishes.get("dtype", "keep"),
            vae=self._vae(beside),
            config=beside.yaml,
            parts=found,
        )

    def _vae(self, beside: Companions) -> Path | None:
        """The VAE that is to replace the model's own: one that was asked for, else its companion."""
        wanted = self.wishes.get("vae")
        return Path(wanted) if wanted else beside.vae

    def _converted(
        self, header: Header, sidecar: Sidecar, beside: Companions, root: Root, options: ConvertOptions
    ) -> Message:
        progress = _Paced(self.path, self.emit)
        name = self._name(sidecar)
        folder = convert_model(header, self.identity, root, name, progress, verify=self.verify, options=options)
        marker = read_marker(folder) or {}
        # A companion may have told what the file does not.
        self.identity = replace(self.identity, prediction_type=marker["identity"]["prediction_type"])
        return self._imported(sidecar, beside, folder, "diffusers", marker["hash"], marker["notes"])

    def _imported(
        self,
        sidecar: Sidecar,
        beside: Companions,
        path: Path,
        form: str,
        digest: str,
        notes: Iterable[str],
        words: tuple[str, ...] = (),
    ) -> Message:
        told = said_beside(beside.json)
        settings = sidecar.default_settings.model_dump(exclude_none=True)
        entry = Entry(
            name=self._name(sidecar),
            path=str(path.absolute()),
            format=form,
            type=self.identity.type,
            base=self.identity.base,
            variant=self.identity.variant,
            prediction_type=self.identity.prediction_type,
            hash=digest,
            source=str(self.path.absolute()),
            description=sidecar.description or told.get("description", ""),
            default_settings={**told.get("default_settings", {}), **settings},
            trigger_phrases=tuple(sidecar.trigger_phrases) or told.get("trigger_phrases", ()) or words,
            reason=printable("; ".join(dict.fromkeys([*self._taken_for_granted(), *self.notes, *notes]))),
            dialect=self.identity.dialect,
            source_url=sidecar.source_url or shown_url(sidecar.install or ""),
            cover_image=str(beside.preview.absolute()) if beside.preview else "",
        )
        event = {"event": "imported", "path": str(self.path), "entry": entry.as_json()}
        # A converted model has the hash of its source already.
        return {**event, "identity": self.identity.as_json(), "fingerprint": "" if digest else fingerprint(self.path)}

    def _taken_for_granted(self) -> Iterator[str]:
        for name in self.identity.assumed:
            yield f"{name} {getattr(self.identity, name)} is taken for granted: nothing in the file tells it"

    def _name(self, sidecar: Sidecar) -> str:
        own = (hub_name(self.path) or self.path.name) if self.path.is_dir() else self.path.stem
        return sidecar.name or "".join(character if character.isprintable() else "-" for character in own)

    def _words(self) -> dict[str, Any]:
        """What the user says of a model, which counts also while it cannot be used."""
        said = self.sidecar
        if said is None:
            return {}
        words = {
            "name": said.name,
            "description": said.description,
            "trigger_phrases": said.trigger_phrases,
            "default_settings": said.default_settings.model_dump(exclude_none=True),
            "source_url": said.source_url or shown_url(said.install or ""),
        }
        return {key: value for key, value in words.items() if value}

    def _verdict(
        self, state: str, reason: str, nearest: tuple[tuple[str, str], ...] = (), *, temporary: bool = False
    ) -> Message:
        return {
            "event": "verdict",
            "path": str(self.path),
            "state": state,
            "identity": self.identity.as_json(),
            "reason": printable(reason),
            "words": self._words(),
            "nearest": [list(pair) for pair in nearest],
            "temporary": temporary,
        }


def printable(text: str) -> str:
    """A text as one line without characters that act: file names may hold any."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class _Paced:
    """Progress as events: twice a second, however often it is told."""

    def __init__(self, path: Path, emit: Emit) -> None:
        self.path, self.emit, self.told = path, emit, time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        if time.monotonic() - self.told >= BEAT_SECONDS:
            self.told = time.monotonic()
            self.emit({"event": "progress", "path": str(self.path), "done": done, "of": of})
