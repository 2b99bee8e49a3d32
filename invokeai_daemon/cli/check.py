"""`check`: validates a job and says what would run, without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invokeai_daemon.cli.options import with_root
from invokeai_daemon.errors import JobError, ModelMissing
from invokeai_daemon.root import Root
