"""`metadata`: what a picture records about how it was made: as text, JSON, a job, or a prompt command."""

from __future__ import annotations

import json
from pathlib import Path

import click

from invokeai_daemon.job.records import job_of_record
from invokeai_daemon.output.metadata import read_record
