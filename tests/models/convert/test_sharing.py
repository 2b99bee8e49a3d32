"""Where the file system shares blocks, a conversion shares the tensors with their source. Wants root and mkfs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.bench_reflink import can_mount, mounted, used_bytes
from invokeai_daemon.models.convert import convert_model
from invokeai_daemon.models.header import read_header
from invokeai_daemon.root import Root
from tests.models.convert import models
from tests.models.convert.models import SDXL

#: The smallest file system that mkfs.xfs makes.
MEGABYTES = 320


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_tensors_are_shared_with_their_source(kind: str, tmp_path: Path) -> None:
    if not can_mount(kind):
        pytest.skip(f"needs root and mkfs.{kind}")
    try:
        with mounted(kind, tmp_path, MEGABYTES) as folder:
            source = models.write(folder / "small.safetensors", SDXL.tensors())
            root = Root(folder / "root")
            root.make()
            before = used_bytes(folder)
            converted = convert_model(read_header(source), SDXL.identity, root, "small", verify=True)
            moved = used_bytes(folder) - before
            weights = sum(path.stat().st_size for path in converted.rglob("*.safetensors"))
            others = sum(path.stat().st_size for path in converted.rglob("*.*") if path.suffix != ".safetensors")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no {kind} can be mounted here: {error}")
    assert weights > 20_000_000
    assert moved < others + weights / 10
