"""The renderer in one process: jobs share forwards, one bad image fails alone, cancelled ones never appear."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from invokeai_daemon.engine import render, showing
from invokeai_daemon.engine.backlog import Ticket, Work
from invokeai_daemon.engine.conditioning import Conditioning
from invokeai_daemon.engine.decode import Picture
from invokeai_daemon.engine.denoise import denoise_step
from invokeai_daemon.engine.lanes import Lane
from invokeai_daemon.engine.loading.pipeline import Pipeline
from invokeai_daemon.engine.passes import Desk, Mode, Pass, Passed
from invokeai_daemon.engine.render import PoisonedDeviceError, Renderer
from invokeai_daemon.engine.rendering import Rendering
from invokeai_daemon.errors import RenderError
from invokeai_daemon.job.plan import Image, Input, ModelRef, Plan
from invokeai_daemon.job.schema import Refiner
from invokeai_daemon.output.metadata import read_record
from invokeai_daemon.output.results import Results
from invokeai_daemon.settings import RenderSettings, Settings
from tests.engine.build import build_sd_2, image
from tests.engine.conftest import start_lanes

Events = list[dict[str, Any]]


@pytest.fixture
def events() -> Events:
    return []


@pytest.fixture
def renderer(events: Events) -> Iterator[Renderer]:
    settings = Settings(render=RenderSettings(device="cpu", max_lanes=4))
    before = torch.get_num_threads()
    yield Renderer(settings, torch.device("cpu"), 2, events.append)
    torch.set_num_threads(before)


@pytest.fixture
def order(renderer: Renderer, model: ModelRef, tmp_path: Path) -> Callable[..., Ticket]:
    """`order("cat", image(), image(2))`: a job whose images are to be rendered."""

    def ordered(job_id: str, *images: Image, alone: bool = False, priority: int = 0, **model_values: str) -> Ticket:
        plan = Plan(job_id, replace(model, **model_values), images, priority)  # type: ignore[arg-type]
        ticket = Ticket(plan, tmp_path / "outputs" / job_id)
        Results(ticket.folder).begin(plan)
        renderer.add(ticket, images, alone)
        return ticket

    return ordered


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lanes shared each step."""
    counts: list[int] = []

    def counting(lanes: list[Lane]) -> dict[Lane, Exception]:
        counts.append(len(lanes))
        return denoise_step(lanes)

    monkeypatch.setattr(render, "denoise_step", counting)
    return counts


def run(renderer: Renderer) -> None:
    while not renderer.is_idle:
        renderer.turn()
    renderer.finish()


def told(events: Events, kind: str) -> list[tuple[str, int]]:
    """Job and image of each event of a kind, in order."""
    return [(event["job"], event["image"]) for event in events if event["event"] == kind]


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    with Pillow.open(path) as picture:
        return np.asarray(picture)


def test_an_image_becomes_a_picture_that_says_how_it_was_made(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    ticket = order("cat", image(1, width=128, seed=7))
    run(renderer)
    assert [event["event"] for event in events if event["event"] != "step"] == ["loading", "loaded", "published"]
    event = events[-1]
    assert (event["job"], event["image"], event["file"], event["seed"]) == ("cat", 1, "0001.7.png", 7)
    assert event["warnings"] == []
    assert event["seconds"] > 0
    picture = ticket.folder / event["file"]
    assert pixels_of(picture).shape == (64, 128, 3)
    assert read_record(picture) is not None


def test_jobs_share_forwards_and_each_picture_is_the_one_it_is_alone(
    renderer: Renderer, order: Callable[..., Ticket], shared: list[int]
) -> None:
    together = [
        order("one", image(1), image(2)),
        order("two", image(1, prompt="a green square", steps=6, scheduler="dpmpp_2m_k")),
        order("three", image(1, cfg_scale=1.0, steps=2)),
    ]
    run(renderer)
    assert shared == [4, 4, 3, 3, 1, 1]
    for ticket in together:
        for wanted in ticket.plan.images:
            alone = order(f"{ticket.plan.job_id}-{wanted.number}", wanted, alone=True)
            run(renderer)
            [first, again] = [
                pixels_of(each.folder / Results(each.folder).name(each.plan, wanted)) for each in (ticket, alone)
            ]
            assert np.array_equal(first, again)


def test_models_of_several_families_render_in_turn_and_share_no_forward(
    renderer: Renderer,
    order: Callable[..., Ticket],
    shared: list[int],
    events: Events,
    xl_model: ModelRef,
    tmp_path: Path,
) -> None:
    v = build_sd_2(tmp_path / "v", "v_prediction")
    order("one", image(1), image(2))
    order("xl", image(1), image(2, prompt="a green square", steps=3), **_identity(xl_model))
    order("v", image(1), **_identity(v))
    run(renderer)
    assert told(events, "image_failed") == []
    assert sorted(told(events, "published")) == [("one", 1), ("one", 2), ("v", 1), ("xl", 1), ("xl", 2)]
    assert shared == [2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1]
    assert [event["model"] for event in events if event["event"] == "loaded"] == ["tiny", "tiny-xl", "tiny-2"]


def _identity(model: ModelRef) -> dict[str, Any]:
    return {key: getattr(model, key) for key in ("name", "path", "base", "hash", "prediction_type")}


def test_a_lane_that_ends_makes_room_for_the_next(
    renderer: Renderer, order: Callable[..., Ticket], shared: list[int], events: Events
) -> None:
    order("many", image(1, steps=1), *(image(number, steps=3) for number in range(2, 7)))
    run(renderer)
    assert shared == [4, 4, 4, 2, 1, 1]
    assert sorted(told(events, "published")) == [("many", number) for number in range(1, 7)]


def test_a_more_urgent_job_interrupts_lanes_that_then_go_on(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    order("slow", image(1, steps=8, width=128))
    renderer.turn()
    order("urgent", image(1), priority=1)
    run(renderer)
    assert told(events, "published") == [("urgent", 1), ("slow", 1)]


def test_a_suspect_shares_no_forward(renderer: Renderer, order: Callable[..., Ticket], shared: list[int]) -> None:
    order("suspect", image(1), image(2), alone=True)
    order("other", image(1))
    run(renderer)
    assert shared == [1] * 12


def test_one_bad_image_fails_alone(renderer: Renderer, order: Callable[..., Ticket], events: Events) -> None:
    order("mixed", image(1), image(2, scheduler="lcm", steps=900), image(3))
    run(renderer)
    assert told(events, "image_failed") == [("mixed", 2)]
    assert told(events, "published") == [("mixed", 1), ("mixed", 3)]
    [failed] = [event for event in events if event["event"] == "image_failed"]
    assert failed["error"].startswith('scheduler "lcm" cannot make 900 steps')
    assert failed["temporary"] is False


def test_an_image_that_breaks_a_shared_forward_fails_alone(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    order("mixed", image(1, steps=3), image(2, steps=3), image(3, steps=3))
    renderer.turn()
    renderer.running[1].lane.conditioning = Conditioning(torch.zeros(2, 77, 5))
    run(renderer)
    assert told(events, "image_failed") == [("mixed", 2)]
    assert sorted(told(events, "published")) == [("mixed", 1), ("mixed", 3)]


def test_a_missing_model_is_temporary_and_stops_nobody(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, tmp_path: Path
) -> None:
    order("lost", image(1), path=str(tmp_path / "gone"))
    order("kept", image(1))
    run(renderer)
    assert told(events, "published") == [("kept", 1)]
    [failed] = [event for event in events if event["event"] == "image_failed"]
    assert failed["temporary"] is True
    assert "is not there any more" in failed["error"]


class Memory:
    """A device with room for so many lanes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __call__(self, lanes: list[Lane]) -> dict[Lane, Exception]:
        if len(lanes) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return denoise_step(lanes)


def test_memory_that_runs_out_means_fewer_lanes(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "denoise_step", Memory(room=1))
    order("large", *(image(number) for number in range(1, 5)))
    run(renderer)
    assert sorted(told(events, "published")) == [("large", number) for number in range(1, 5)]
    assert told(events, "image_failed") == []


def test_an_image_that_never_fits_fails_for_now(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "denoise_step", Memory(room=0))
    order("huge", image(1))
    run(renderer)
    [failed] = [event for event in events if event["event"] == "image_failed"]
    assert failed["temporary"] is True
    assert "too little memory" in failed["error"]


def test_a_device_that_fails_ends_the_renderer(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(lanes: list[Lane]) -> dict[Lane, Exception]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(render, "denoise_step", fail)
    order("cat", image(1))
    with pytest.raises(PoisonedDeviceError, match="illegal memory access"):
        run(renderer)
    assert told(events, "image_failed") == []


def test_a_pass_that_cannot_begin_for_want_of_memory_is_easier_in_the_next_try(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Rendering, "goes_on", fail)
    ticket = order("cat", image(1))
    run(renderer)
    [failed] = [event for event in events if event["event"] == "image_failed"]
    assert failed["temporary"] is True
    assert renderer.stock.memory.easing(ticket.plan.model, ticket.plan.images[0]).tiled


def test_a_model_that_an_image_goes_on_with_is_not_loaded_twice(
    model: ModelRef, pipeline: Pipeline, events: Events, tmp_path: Path
) -> None:
    room_for_one = RenderSettings(device="cpu", max_lanes=1, cache_gb=1.2 * pipeline.size / 1e9)
    renderer = Renderer(Settings(render=room_for_one), torch.device("cpu"), 2, events.append)
    other = replace(model, name="other", hash="blake3:other")
    images = (image(1, refiner=Refiner(model="other", start=0.5)), image(2))
    plan = Plan("pair", model, images, references=(other,))
    renderer.add(Ticket(plan, tmp_path), images, alone=False)
    run(renderer)
    assert told(events, "published") == [("pair", 1), ("pair", 2)]
    assert [event["model"] for event in events if event["event"] == "loading"] == [model.name, "other"]


def test_a_picture_tells_the_warnings_of_all_its_passes(pipeline: Pipeline, tmp_path: Path) -> None:
    images = (image(1),)
    first, second = start_lanes(pipeline, [image(1), image(1)])
    first.warnings, second.warnings = ["both", "first"], ["both", "second"]

    def mode() -> Mode:
        yield Pass(images[0], then="latents")
        yield Pass(images[0])
        return Picture(np.zeros((8, 8, 3), np.uint8), second.warnings)

    plan = Plan("cat", pipeline.model, images)
    desk, made = Desk(plan, tmp_path, pipeline), mode()
    one = Rendering(Work(Ticket(plan, tmp_path), images[0], False, 0), made, next(made), desk)
    for lane in (first, second):
        one.lane = lane
        one.goes_on(Passed(lane.latents))
    assert one.picture is not None
    assert one.picture.warnings == ["both", "first", "second"]


def test_a_picture_that_cannot_be_read_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "1-cat.png").write_bytes(b"no picture")
    plan = Plan("cat", pipeline.model, (), inputs=(Input("cat.png", "1-cat.png", ""),))
    with pytest.raises(RenderError, match=r"copy of cat\.png, .*1-cat\.png, cannot be read"):
        Desk(plan, tmp_path, pipeline).open("cat.png")


def test_cancelled_images_never_appear(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, kept = order("cancelled", *(image(number) for number in range(1, 7))), order("kept", image(1))
    decoding, may_decode = threading.Event(), threading.Event()

    def held(lanes: list[Lane], tiled: bool) -> list[Any]:
        decoding.set()
        assert may_decode.wait(10)
        return decode(lanes, tiled)

    decode = showing.decode
    monkeypatch.setattr(showing, "decode", held)
    while not decoding.is_set():
        renderer.turn()
    renderer.cancel("cancelled")
    may_decode.set()
    run(renderer)
    assert told(events, "published") == [("kept", 1)]
    assert [path.name for path in cancelled.folder.iterdir()] == ["job.toml"]
    assert len(list(kept.folder.glob("*.png"))) == 1


def test_a_job_can_be_ordered_again_after_it_was_cancelled(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    order("cat", image(1))
    renderer.turn()
    renderer.cancel("cat")
    order("cat", image(1))
    run(renderer)
    assert told(events, "published") == [("cat", 1)]


def test_pictures_of_steps_appear_beside_the_picture(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    ticket = order("cat", image(1, seed=7, steps=5, save_intermediates=2), image(2, steps=5))
    run(renderer)
    assert sorted(told(events, "published")) == [("cat", 1), ("cat", 2)]
    steps = ticket.folder / "intermediates"
    assert [str(path.relative_to(steps)) for path in sorted(steps.rglob("*.png"))] == [
        f"0001.7/{step:04}.png" for step in (0, 2, 4)
    ]
    first, _, last = (pixels_of(path).astype(int) for path in sorted(steps.rglob("*.png")))
    away, near = (np.abs(step - pixels_of(ticket.folder / "0001.7.png")).mean() for step in (first, last))
    assert near < away / 2
    assert Results(ticket.folder).published(ticket.plan) == {1, 2}


def test_a_step_that_cannot_be_shown_is_a_warning(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    ticket = order("cat", image(1, steps=3, save_intermediates=3))
    (ticket.folder / "intermediates").write_text("a file is in the way")
    run(renderer)
    [published] = [event for event in events if event["event"] == "published"]
    assert published["warnings"][0].startswith("there is no picture of step 0: The picture could not be written: ")


def test_tiles_and_other_pictures_share_no_forward(
    renderer: Renderer, order: Callable[..., Ticket], shared: list[int]
) -> None:
    order("mixed", image(1), image(2, seamless_x=True), image(3), image(4, seamless_x=True))
    run(renderer)
    assert shared == [2] * 8


def test_a_decoding_that_fails_fails_its_image_alone(
    renderer: Renderer, order: Callable[..., Ticket], events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fragile(lanes: list[Lane], tiled: bool) -> list[Any]:
        if any(lane.image.number == 2 for lane in lanes):
            raise ValueError("no such colour")
        return decode(lanes, tiled)

    decode = showing.decode
    monkeypatch.setattr(showing, "decode", fragile)
    order("cat", image(1), image(2), image(3))
    run(renderer)
    assert sorted(told(events, "published")) == [("cat", 1), ("cat", 3)]
    [failed] = [event for event in events if event["event"] == "image_failed"]
    assert failed["error"] == "The image could not be rendered: ValueError: no such colour"


def test_a_picture_that_cannot_be_written_may_be_tried_again(
    renderer: Renderer, order: Callable[..., Ticket], events: Events
) -> None:
    ticket = order("cat", image(1))
    # A file is in the way.
    (ticket.folder / "gone").write_text("")
    ticket.folder = ticket.folder / "gone"
    run(renderer)
    [failed] = [event for event in events if event["event"] == "image_failed"]
    assert failed["temporary"] is True
    assert failed["error"].startswith("The picture could not be written")
