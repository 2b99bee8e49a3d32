"""Watch: hints that something happened in a folder, from inotify where the mount gives events, else from a timer.

Called by the loop. A hint only wakes the loop and says where to look first; what is there is told by scans, which the
loop makes at start, when hints were lost, and every few minutes. Never reads files.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from invokeai_daemon.daemon.logs import events
from invokeai_daemon.daemon.settle import marks_unfinished

#: File systems whose servers or helpers change files without telling our kernel.
SILENT_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "vboxsf", "virtiofs"}
#: Beyond this many, single hints cost more than a scan.
MOST_HINTS = 20_000

Mode = Literal["inotify", "events", "poll"]


@dataclass
class Hints:
    """What happened since the last look."""

    #: Path → whether it was closed after writing, or renamed in.
    touched: dict[Path, bool] = field(default_factory=dict)
    #: Watched folders of which hints were lost, or that are polled and due: scan them.
    scan: set[Path] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.touched or self.scan)

    def below(self, folder: Path) -> dict[Path, bool]:
        """The touched paths directly in a folder."""
        return {path: sealed for path, sealed in self.touched.items() if path.parent == folder}


@dataclass
class Watched:
    """One watched folder."""

    path: Path
    #: Whether files that leave the folder matter, too.
    removals: bool
    #: The folder whose scan covers this one: itself, or the top of a watched tree.
    top: Path
    mode: Mode = "poll"
    #: (device, inode) of the folder that the kernel watches; None while it watches none.
    armed: tuple[int, int] | None = None
    descriptor: int = -1
    #: When it is polled next, monotonic seconds.
    due: float = 0.0


class Watch:
    """Watches folders; thread-safe where the kernel's thread and the loop meet."""

    def __init__(self, wake: Callable[[], None], poll_seconds: float, force_polling: bool = False) -> None:
        self._wake = wake
        self._poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._hints = Hints()
        self._folders: dict[Path, Watched] = {}
        self._kernel = None if force_polling else _kernel(self)
        self._warned = False

    def add(self, path: Path, now: float, *, removals: bool = False, top: Path | None = None) -> None:
        """Watch a folder (not below it). Watching it again re-arms it when it was replaced."""
        watched = self._folders.get(path)
        if watched is None:
            watched = self._folders[path] = Watched(path, removals, top or path, due=now + self._poll_seconds)
        self._arm(watched)

    def keep_only(self, top: Path, paths: set[Path]) -> None:
        """Forget the watched folders of a tree that a scan did not find any more."""
        for path in [path for path, watched in self._folders.items() if watched.top == top]:
            if path not in paths:
                self._disarm(self._folders.pop(path))

    def take(self, now: float) -> Hints:
        """What happened since the last call; polled folders that are due are among what to scan."""
        with self._lock:
            taken, self._hints = self._hints, Hints()
        for watched in self._folders.values():
            if watched.mode == "poll" and now >= watched.due:
                watched.due = now + self._poll_seconds
                taken.scan.add(watched.top)
        return taken

    def check(self) -> None:
        """Re-arm folders that were deleted and made anew, or unmounted and mounted: their hints were lost."""
        for watched in list(self._folders.values()):
            if watched.mode != "poll" and watched.armed != _identity(watched.path):
                self._arm(watched)

    def next_time(self) -> float:
        return min((watched.due for watched in self._folders.values() if watched.mode == "poll"), default=float("inf"))

    def mode(self, top: Path) -> Mode:
        """How a folder or tree is watched; "poll" when any part of it is polled."""
        modes = {watched.mode for watched in self._folders.values() if watched.top == top}
        return "poll" if "poll" in modes or not modes else modes.pop()

    def close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()

    # -- called from the kernel's thread ---------------------------------------------------------------------------

    def touch(self, folder: Path, name: str, *, sealed: bool, removed: bool) -> None:
        """Something happened to a name in a watched folder."""
        watched = self._folders.get(folder)
        if watched is None or name.startswith("."):
            return
        if removed and not watched.removals and not marks_unfinished(name):
            return
        with self._lock:
            touched = self._hints.touched
            if len(touched) >= MOST_HINTS:
                self._hints.scan.add(watched.top)
            else:
                path = folder / name
                touched[path] = sealed or touched.get(path, False)
        self._wake()

    def unwatched(self, folder: Path, descriptor: int) -> None:
        """The kernel stopped watching a folder, which is gone; one in its place may even have its inode number."""
        watched = self._folders.get(folder)
        if watched is not None and watched.descriptor == descriptor:
            watched.armed = None
        self.lose(folder)

    def lose(self, folder: Path | None = None) -> None:
        """Hints were lost: of one folder, or of all."""
        lost = [self._folders[folder]] if folder in self._folders else list(self._folders.values())
        with self._lock:
            self._hints.scan.update(watched.top for watched in lost)
        self._wake()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _arm(self, watched: Watched) -> None:
        identity = _identity(watched.path)
        if identity is None:
            self._disarm(watched)
            return
        if watched.armed == identity:
            return
        again = watched.descriptor != -1
        self._disarm(watched)
        if self._kernel is None or is_silent(watched.path):
            watched.mode = "poll"
            return
        try:
            watched.descriptor = self._kernel.watch(watched.path)
            watched.armed, watched.mode = identity, self._kernel.mode
        except OSError as error:
            watched.mode = "poll"
            self._warn(watched.path, error)
        if again:
            events.info("watch.rearmed", path=watched.path)
        with self._lock:
            self._hints.scan.add(watched.top)

    def _disarm(self, watched: Watched) -> None:
        if watched.descriptor != -1 and self._kernel is not None:
            self._kernel.unwatch(watched.descriptor)
        watched.armed, watched.descriptor = None, -1

    def _warn(self, path: Path, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            reason = error.strerror or str(error)
            hint = "Raise fs.inotify.max_user_watches or max_user_instances with sysctl for faster notice."
            events.warning("watch.polling", path=path, reason=reason, hint=hint)


def is_silent(path: Path, mounts: str = "/proc/self/mounts") -> bool:
    """Whether the file system of a path gives no events for what others do to it (network, FUSE)."""
    kind = file_system_of(path, mounts)
    return kind in SILENT_FILE_SYSTEMS or kind.startswith("fuse")


def file_system_of(path: Path, mounts: str = "/proc/self/mounts") -> str:
    """The type of the file system a path is on; empty where the system does not say."""
    try:
        lines = [line.split() for line in Path(mounts).read_text("utf-8", "surrogateescape").splitlines()]
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for fields in lines:
        point = _unescaped(fields[1]) if len(fields) > 2 else ""
        is_above = real == point or real.startswith(point.rstrip("/") + "/")
        if point and is_above and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _kernel(watch: Watch) -> _Inotify | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return _Inotify(watch)
    except OSError as error:
        events.warning("watch.polling", reason=error.strerror or str(error))
        return None


class _Inotify:
    """watchdog's inotify reader, without its grouping of moves, which holds later events back for half a second."""

    mode: Mode = "inotify"

    def __init__(self, watch: Watch) -> None:
        from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyFD, Mask

        self._watch = watch
        self._paths: dict[int, Path] = {}
        self._id = CallbackId(id(self))
        self._mask = Mask(
            InotifyConstants.IN_CLOSE_WRITE
            | InotifyConstants.IN_MOVE
            | InotifyConstants.IN_CREATE
            | InotifyConstants.IN_DELETE
            | InotifyConstants.IN_DELETE_SELF
            | InotifyConstants.IN_MOVE_SELF
            | InotifyConstants.IN_ONLYDIR
        )
        self._reader = InotifyFD()
        self._reader.daemon = True
        self._reader.start()

    def watch(self, path: Path) -> int:
        """Start watching a folder. Raises OSError at the limits of the kernel."""
        descriptor = self._reader.add_callback(os.fsencode(path), self._mask, self, self._id)
        self._paths[descriptor] = path
        return descriptor

    def unwatch(self, descriptor: int) -> None:
        from watchdog.observers.inotify_c import WatchDescriptor

        if self._paths.pop(descriptor, None) is not None:
            self._reader.remove_callbacks([(WatchDescriptor(descriptor), self._id)])

    def close(self) -> None:
        self._reader.stop()
        self._reader.join(timeout=2)

    def on_event(self, event: object) -> None:
        """Called by watchdog's thread."""
        from watchdog.observers.inotify_c import InotifyEvent

        assert isinstance(event, InotifyEvent)
        folder = self._paths.get(event.wd)
        if folder is None:
            return
        if event.is_delete_self or event.is_move_self:
            self._watch.lose(folder)
        elif event.name:
            sealed = event.is_close_write or (event.is_moved_to and not event.is_directory)
            removed = event.is_delete or event.is_moved_from
            self._watch.touch(folder, os.fsdecode(event.name), sealed=sealed, removed=removed)

    def on_watch_deleted(self, descriptor: int) -> None:
        """Called by watchdog's thread when a folder is gone."""
        folder = self._paths.pop(descriptor, None)
        if folder is not None:
            self._watch.unwatched(folder, descriptor)

    def on_queue_overflow(self) -> None:
        """Called by watchdog's thread when the kernel dropped events."""
        events.warning("watch.overflow", hint="many files arrived at once; all folders are scanned")
        self._watch.lose()
