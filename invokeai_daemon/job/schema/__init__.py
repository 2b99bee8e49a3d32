"""What a job file may say, table by table. `job.py` puts them together."""

from __future__ import annotations

from invokeai_daemon.job.schema.adapters import ControlNet, IPAdapter, Lora, T2IAdapter
from invokeai_daemon.job.schema.job import OWN_PREFIX, Job, Source, json_schema
from invokeai_daemon.job.schema.pictures import Hires, Infill, Init, Mask, Outpaint, Refiner, Seam
from invokeai_daemon.job.schema.run import RecordedInput, RecordedModel, Resolved, Variation
from invokeai_daemon.job.schema.values import Values
from invokeai_daemon.job.schema.words import MAX_SEED, SchedulerName, Size, Table, Text

__all__ = [
    "MAX_SEED",
    "OWN_PREFIX",
    "ControlNet",
    "Hires",
    "IPAdapter",
    "Infill",
    "Init",
    "Job",
    "Lora",
    "Mask",
    "Outpaint",
    "RecordedInput",
    "RecordedModel",
    "Refiner",
    "Resolved",
    "SchedulerName",
    "Seam",
    "Size",
    "Source",
    "T2IAdapter",
    "Table",
    "Text",
    "Values",
    "Variation",
    "json_schema",
]
