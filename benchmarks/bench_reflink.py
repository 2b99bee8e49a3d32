"""Sharing blocks: on XFS and btrfs an import moves (nearly) no bytes. A section of `bench_models`; wants root.

The file systems are made in a file and mounted from there, by mkfs.xfs (package xfsprogs) and mkfs.btrfs (btrfs-progs).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_import import imported, made
from invokeai_daemon.root import Root

FILE_SYSTEMS = ("xfs", "btrfs")
#: New bytes on the disk for each byte of the model: configs, tokenizer, the edges of what is shared.
MOST_MOVED = 0.02
MEGABYTES = 6144


def run(scratch: Path) -> bool:
    """Import a full-size checkpoint on each file system; False when more than a trace of its bytes was moved."""
    within = True
    for kind in FILE_SYSTEMS:
        if not can_mount(kind):
            print(f"{kind:<6} not measured: wants root, loop devices and mkfs.{kind}")
            continue
        with mounted(kind, scratch, MEGABYTES) as folder:
            source = made(folder / "random.safetensors")
            before = used_bytes(folder)
            one = imported(source, Root(folder / "root"), scratch, "keep")
            share = (used_bytes(folder) - before) / source.stat().st_size
        fits = share <= MOST_MOVED
        within = within and fits
        print(
            f"{kind:<6} import {one.seconds:.2f} s, {share:.2%} of its bytes written anew "
            f"(may be {MOST_MOVED:.0%})  {'ok' if fits else 'MISSED'}",
            flush=True,
        )
    return within


def can_mount(kind: str) -> bool:
    return os.geteuid() == 0 and shutil.which(f"mkfs.{kind}") is not None and Path("/dev/loop-control").exists()


@contextmanager
def mounted(kind: str, scratch: Path, megabytes: int) -> Iterator[Path]:
    """A new file system of this kind, in a sparse file below `scratch`. Raises CalledProcessError where none can be."""
    image, folder = scratch / f"{kind}.img", scratch / kind
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    _run(f"mkfs.{kind}", "-q", image)
    _run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        for _ in range(20):  # something may still look at it
            if subprocess.run(["umount", folder], check=False, stderr=subprocess.DEVNULL).returncode == 0:
                break
            time.sleep(0.1)
        image.unlink()


def used_bytes(folder: Path) -> int:
    """Of the file system that a folder is in, with everything on disk."""
    os.sync()
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
