"""The intake's bench, for files that mean harm."""

from __future__ import annotations

from tests.daemon.conftest import bench, make

__all__ = ["bench", "make"]
