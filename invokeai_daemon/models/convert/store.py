"""The store of converted models: `models/<base>/<type>/<name>/`, each with a marker that says where it came from.

A folder appears under its name complete and on disk, or not at all. What is already there is never changed: the same
content is not converted twice, and a taken name gets a number. Called by the importer.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invokeai_daemon import __version__
from invokeai_daemon.errors import DiskFull, UnreadableModel
from invokeai_daemon.files import TEMPORARY_PREFIX, sync_file, sync_folder, temporary_beside
from invokeai_daemon.models.convert.conversion import MARKER, Conversion, Progress, Result
from invokeai_daemon.models.convert.copying import content_hash
from invokeai_daemon.models.convert.family import diffusers_version
from invokeai_daemon.models.convert.options import ConvertOptions
from invokeai_daemon.models.convert.plan import plan_conversion
from invokeai_daemon.models.header import Header
from invokeai_daemon.models.identity import Identity
from invokeai_daemon.root import Root

#: Raised whenever the same file would be converted to another folder; older copies are then not reused.
CONVERTER = 2
#: Bytes of a folder besides its tensors: tokenizer, configs, block sizes.
SPARE_BYTES = 16 * 1024 * 1024


def convert_model(
    header: Header,
    identity: Identity,
    root: Root,
    name: str,
    progress: Progress = lambda done, of: None,
    *,
    verify: bool = False,
    options: ConvertOptions | None = None,
) -> Path:
    """Convert a model file into the root's store and give its folder; an equal one that is there is given again.

    What was decided on the way is in its marker: the identity (a same-stem `.yaml` may have told the prediction type),
    notes, hash.

    `verify` reads the folder back and compares it with the file, byte by byte, for callers who will delete the file.
    Raises IncompleteModel, UnreadableModel when the file changes meanwhile, ModelError when there is no conversion of
    this identity, DiskFull, OSError.
    """
    before = _state(header.path)
    conversion = plan_conversion(header, identity, options)
    others = {path: _state(path) for path in conversion.others}
    shelf = root.models / identity.base / identity.type
    shelf.mkdir(parents=True, exist_ok=True)
    folder = _equal_folder(shelf, header.path, conversion)
    if folder is not None:
        if verify:
            conversion.verify(folder)
        return folder
    _require_room(shelf, conversion)
    with _unfinished(shelf, name) as folder:
        result = conversion.execute(folder, progress)
        if verify:
            conversion.verify(folder)
        for path, state in {**others, header.path: before}.items():
            if _state(path) != state or (path == header.path and state[2] != header.size):
                raise UnreadableModel(f"{path}: changed while it was converted. It is tried again when at rest.")
        _write_marker(folder, header.path, conversion, result)
        return _appear(folder, shelf / folder_name(name))


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What the marker of a converted folder says: source, hash, identity, files …; None when there is none."""
    try:
        marker = json.loads((folder / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def is_complete(folder: Path) -> bool:
    """Whether every file that the marker lists is there with its size."""
    marker = read_marker(folder)
    return marker is not None and marker.get("files") == _sizes(folder)


def folder_name(name: str) -> str:
    """A model's name as the name of a folder: no separators, no leading dot, at most 100 bytes."""
    safe = re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"
    return safe.encode()[:100].decode(errors="ignore")


def _state(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _equal_folder(shelf: Path, path: Path, conversion: Conversion) -> Path | None:
    """A folder that files of the same content were converted to alike. Files are hashed only if one is likely."""
    sources = (path, *conversion.others)
    recipe = [path.stat().st_size, CONVERTER, conversion.fingerprint]
    alike = []
    for folder in sorted(shelf.iterdir()):
        marker = None if folder.name.startswith(TEMPORARY_PREFIX) else read_marker(folder)
        made = marker and [marker.get(key) for key in ("size", "converter", "fingerprint")]
        if marker and made == recipe and is_complete(folder):
            if marker.get("states") == [list(_state(source)) for source in sources]:
                return folder
            alike.append((folder, [marker.get("hash"), *_hashes(marker)]))
    if not alike:
        return None
    digests = [_hash_of_file(source) for source in sources]
    return next((folder for folder, known in alike if known == digests), None)


def _hashes(marker: dict[str, Any]) -> list[Any]:
    others = marker.get("others")
    return [other.get("hash") for other in others if isinstance(other, dict)] if isinstance(others, list) else []


def _hash_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return content_hash(file.fileno())


def _require_room(shelf: Path, conversion: Conversion) -> None:
    free, needed = shutil.disk_usage(shelf).free, conversion.nbytes + SPARE_BYTES
    if free < needed:
        raise DiskFull(
            f"{conversion.source}: converting it needs {needed / 1e9:.1f} GB in {shelf}, and {free / 1e9:.1f} GB are "
            "free. Make room; it is tried again."
        )


@contextmanager
def _unfinished(shelf: Path, name: str) -> Iterator[Path]:
    """A new folder that is gone after the body, unless the body renamed it.

    It is locked, so that other importers can tell work from what a crash left behind, which they remove.
    """
    _remove_leftovers(shelf)
    folder = temporary_beside(shelf / folder_name(name))
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _remove_leftovers(shelf: Path) -> None:
    for folder in shelf.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(descriptor)


def _write_marker(folder: Path, path: Path, conversion: Conversion, result: Result) -> None:
    marker = {
        "source": str(path.absolute()),
        "size": path.stat().st_size,
        "hash": result.hash,
        # Device, inode, size and time of each source: while they are the same, the content is.
        "states": [_state(source) for source in (path, *conversion.others)],
        "others": [{"source": str(other.absolute()), "hash": digest} for other, digest in result.others.items()],
        "identity": _identity(conversion),
        "options": _options(conversion.options),
        "fingerprint": conversion.fingerprint,
        "notes": [*conversion.notes, *result.notes],
        "files": _sizes(folder),
        "converter": CONVERTER,
        "versions": {"invokeai_daemon": __version__, "diffusers": diffusers_version()},
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n")
    sync_file(folder / MARKER)
    sync_folder(folder)


def _identity(conversion: Conversion) -> dict[str, Any]:
    """What of the identity shapes the folder; the evidence is worded anew in every version."""
    identity = conversion.identity
    return {
        "type": identity.type,
        "base": identity.base,
        "variant": identity.variant,
        "prediction_type": identity.prediction_type,
    }


def _options(options: ConvertOptions) -> dict[str, Any]:
    return {
        "use_ema": options.use_ema,
        "dtype": options.dtype,
        "config": None if options.config is None else str(options.config.absolute()),
        "parts": {name: str(path.absolute()) for name, path in options.sources.items()},
    }


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _appear(folder: Path, wanted: Path) -> Path:
    """Give a finished folder its name, or that name with the first free number."""
    number, target = 1, wanted
    while True:
        # Should another importer take the name in between, the rename fails: its folder is not empty.
        if not os.path.lexists(target) and _renamed(folder, target):
            sync_folder(target.parent)
            return target
        number += 1
        target = wanted.with_name(f"{wanted.name}-{number}")


def _renamed(folder: Path, target: Path) -> bool:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        return False
    return True
