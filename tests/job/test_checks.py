"""What cannot go together in a job, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from invokeai_daemon.job.checks import ONLY_FOR, Circumstances, faults
from invokeai_daemon.job.schema import Job

SIZES = {"photo.png": (1000, 700), "mask.png": (500, 350), "tall.png": (350, 500)}
ORDINARY = Circumstances("paint", "sd-1", sizes=SIZES)
INIT = {"image": "photo.png"}
CONTROL = {"name": "edges", "image": "photo.png"}


def told(found: Circumstances = ORDINARY, **keys: Any) -> dict[str, str]:
    return {fault.key: f"{fault.message} {fault.hint}" for fault in faults(Job(prompt="a cat", **keys), found)}


def of(base: str, variant: str = "normal", **more: Any) -> Circumstances:
    return Circumstances("paint", base, variant, **{"sizes": SIZES, **more})


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"init": INIT},
        {"init": INIT, "mask": {"image": "mask.png"}},
        {"init": INIT, "mask": {"text": "a cat"}, "infill": {"method": "tile"}, "seam": {"size": 8}},
        {"init": INIT, "outpaint": {"left": "25%"}, "infill": {"method": "solid"}},
        {"init": INIT, "mask": {"image": "lost.png"}},
        {"controlnets": [CONTROL], "hires": {"strength": 0.5}},
    ],
)
def test_what_goes_together_is_left_alone(keys: dict[str, Any]) -> None:
    assert told(**keys) == {}


def test_what_changes_an_init_image_needs_one_and_all_of_it_is_said_at_once() -> None:
    found = told(mask={"text": "a cat"}, outpaint={"left": 8}, infill={"method": "tile"}, seam={"size": 8})
    assert set(found) == {"mask", "outpaint", "infill", "seam"}
    assert found["mask"] == (
        "it says what is painted anew of an init image, and there is none. Add [init] with an image, or remove this."
    )


@pytest.mark.parametrize("key", ONLY_FOR)
def test_a_key_of_some_bases_is_refused_for_others(key: str) -> None:
    value = {"refiner": {"model": "finer"}, "guidance": 3.5}.get(key, [CONTROL] if key.endswith("s") else "ink")
    bases, why = ONLY_FOR[key]
    assert key not in told(of(min(bases)), **{key: value})
    assert told(of("sd-3"), **{key: value})[key].startswith(f"{why}; paint is a sd-3 model.")


@pytest.mark.parametrize(
    ("found", "keys", "key", "says"),
    [
        (ORDINARY, {"mask": {"image": "tall.png"}}, "mask.image", "the mask has 350 × 500, the init image 1000 × 700."),
        (ORDINARY, {"mask": {"invert": True}}, "mask", "it paints nothing"),
        (ORDINARY, {"outpaint": {"left": 8}, "infill": {"method": "lama"}}, "infill.method", "Use patchmatch"),
        (of("flux", "dev"), {"scheduler": "ddim"}, "scheduler", "cannot follow the flow of paint, a flux dev model"),
        (of("sd-3", "medium", swaps=True), {}, "prompt", "paint, a sd-3 medium model, knows no .swap(…)"),
        (of("flux", "dev"), {"clip_skip": 1}, "clip_skip", "no layer before"),
        (ORDINARY, {"outpaint": {"left": "0%"}}, "outpaint", "no side is extended"),
        (ORDINARY, {"infill": {"method": "tile"}}, "infill", "nothing is painted beside the init image"),
        (ORDINARY, {"seam": {"size": 8}}, "seam", "nothing is painted beside the init image"),
        (of("sd-1", "edit"), {"mask": {"text": "a cat"}}, "mask", "paint is a sd-1 edit model, which changes pictures"),
        (of("sd-2", "depth", sees_depth=True), {"outpaint": {"left": 8}}, "outpaint", "a sd-2 depth model"),
        (of("sd-2", "depth"), {}, "init", "has no part that estimates depth. Give a depth map"),
        (ORDINARY, {"init": {**INIT, "depth": "mask.png"}}, "init.depth", "only depth models look at a depth map"),
        (
            of("sd-2", "depth"),
            {"init": {**INIT, "depth": "tall.png"}},
            "init.depth",
            "the depth map has 350 × 500",
        ),
        (
            ORDINARY,
            {"init": {**INIT, "image_guidance_scale": 2.0}},
            "init.image_guidance_scale",
            "only models that edit by instruction heed it",
        ),
        (
            ORDINARY,
            {"init": {**INIT, "color_match": True}, "mask": {"text": "a cat"}},
            "init.color_match",
            "the mask brings what is painted to them",
        ),
        (ORDINARY, {"init": {**INIT, "strength": 0.5}, "denoising_start": 0.3}, "denoising_start", "Keep one of them"),
    ],
)
def test_each_thing_that_cannot_be_has_its_sentence(
    found: Circumstances, keys: dict[str, Any], key: str, says: str
) -> None:
    assert says in told(found, **{"init": INIT, **keys})[key]


def test_a_transparent_init_image_is_a_mask() -> None:
    found = of("sd-1", is_transparent=True)
    assert told(found, init=INIT, mask={"grow": 4}, infill={"method": "tile"}, seam={"size": 8}) == {}
