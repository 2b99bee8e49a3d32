"""Records: what a PNG says about its making, as a job. One module per writer: ours, InvokeAI's, AUTOMATIC1111's.

`output.metadata` reads the chunks of a file; here they get their meaning. What cannot be rendered again is named, never
left out silently.
"""

from __future__ import annotations

from invokeai_daemon.job.records.a1111 import lora_tags, split_parameters
from invokeai_daemon.job.records.collector import A1111_CHUNK, INVOKEAI_CHUNK, OWN_CHUNK, OWN_FIELD
from invokeai_daemon.job.records.record import Record, job_of_record, record_of_chunks

__all__ = [
    "A1111_CHUNK",
    "INVOKEAI_CHUNK",
    "OWN_CHUNK",
    "OWN_FIELD",
    "Record",
    "job_of_record",
    "lora_tags",
    "record_of_chunks",
    "split_parameters",
]
