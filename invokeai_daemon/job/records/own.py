"""Our own record: all of an image, as the plan had it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from invokeai_daemon.job.plan_job import OPTIONAL
from invokeai_daemon.job.records.collector import OWN_CHUNK, Collector, json_object
from invokeai_daemon.job.schema import OWN_PREFIX

IMAGE_KEYS = ("prompt", "negative_prompt", "width", "height", "steps", "cfg_scale", "scheduler", "seed")


def read(chunks: Mapping[str, str], found: Collector) -> dict[str, Any]:
    data = json_object(chunks[OWN_CHUNK])
    image = data["image"]
    found.take("model", data["model"]["name"])
    for key in IMAGE_KEYS:
        found.take(key, image[key])
    # Pictures of earlier versions lack these.
    for key in OPTIONAL:
        found.take(key, image.get(key))
    # They took every prompt for plain words, too.
    found.job.setdefault("prompt_syntax", "plain")
    found.take_variations(image.get("variations", ()))
    found.take_tables(image)
    found.job.update({key: own for key, own in data["meta"].items() if key == "meta" or key.startswith(OWN_PREFIX)})
    return data
