"""Showing: denoised images become pictures, and pictures become files, each in a thread of its own.

Kept by the renderer, which gives it lanes that are done. What appears is complete, and nothing of a cancelled job does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from invokeai_daemon.engine.decode import decode, decode_limit
from invokeai_daemon.engine.faults import explained, is_out_of_memory
from invokeai_daemon.engine.loading.stock import Stock
from invokeai_daemon.engine.passes import Passed
from invokeai_daemon.engine.rendering import Rendering
from invokeai_daemon.engine.stages import Stage
from invokeai_daemon.job.plan import Image, Plan
from invokeai_daemon.output.metadata import chunks
from invokeai_daemon.output.png import encode
from invokeai_daemon.output.results import Results
from invokeai_daemon.settings import OutputSettings

#: Seconds that a stop waits for pictures that are already denoised.
STOP_PATIENCE = 20.0


class Showing:
    """The way of images from their last step to their files."""

    def __init__(
        self,
        settings: OutputSettings,
        stock: Stock,
        made_with: Mapping[str, str],
        say: Callable[[dict[str, Any]], None],
        go_on: Callable[[Rendering, Passed], None],
        fail: Callable[[Rendering, Exception], None],
    ) -> None:
        """`go_on` and `fail` are called from the threads: with what became of a pass, and for an image that failed.

        `made_with` are the versions and the device that pictures record.
        """
        self.settings, self.stock, self.made_with = settings, stock, made_with
        self.say, self.go_on, self.fail = say, go_on, fail
        #: Held while a picture appears, so that none does after a cancellation was confirmed.
        self.appearing = threading.Lock()
        self._publishing: Stage[Rendering] = Stage("publish", self._publish)
        self._decoding: Stage[Rendering] = Stage(
            "decode", self._decode, lambda one: (one.lane.group, one.lane.vae), lambda one: decode_limit(one.lane)
        )

    def decode(self, one: Rendering) -> None:
        """Make a picture of its latents; its mode goes on with that."""
        self._decoding.put(one)

    def publish(self, one: Rendering) -> None:
        """Let its picture appear."""
        self._publishing.put(one)

    def finish(self) -> None:
        """Publish what is denoised, in bounded time; the rest is abandoned and nothing of it is on disk."""
        if self._decoding.drain(STOP_PATIENCE):
            self._publishing.drain(STOP_PATIENCE)

    def _decode(self, done: list[Rendering]) -> None:
        wanted = [one for one in done if not one.is_cancelled]
        try:
            pictures = decode([one.lane for one in wanted], self.stock.easing(wanted[0].work).tiled) if wanted else []
        except Exception as error:  # noqa: BLE001  the boundary of these images
            if len(wanted) == 1:
                self._handle_failed_decoding(wanted[0], error)
            else:
                for one in wanted:
                    self._decode([one])
            return
        for one, picture in zip(wanted, pictures, strict=True):
            if one.step is None:
                self.go_on(one, Passed(one.lane.latents, picture))
            else:
                one.picture = picture
                self._publishing.put(one)

    def _handle_failed_decoding(self, one: Rendering, error: Exception) -> None:
        """Out of memory: in tiles from now on, at last with less of the model, which takes another try."""
        failure = error.with_traceback(None)
        plan, was_tiled = one.work.ticket.plan, self.stock.easing(one.work).tiled
        if is_out_of_memory(error) and self.stock.memory.climb(plan.model, one.work.image, "vae") and not was_tiled:
            self._decode([one])
        else:
            self._fail_to_show(one, failure)

    def _publish(self, done: list[Rendering]) -> None:
        for one in done:
            try:
                if one.step is None:
                    self._publish_one(one, one.work.ticket.plan, one.work.image)
                else:
                    self._publish_step(one, one.step)
            except Exception as error:  # noqa: BLE001  the boundary of one image
                self._fail_to_show(one, error)

    def _publish_step(self, one: Rendering, step: int) -> None:
        assert one.picture is not None
        png = encode(one.picture.pixels, {}, self.settings.png_compression)
        with self.appearing:
            if not one.is_cancelled:
                Results(one.work.ticket.folder).publish_step(one.work.ticket.plan, one.work.image, step, png)

    def _publish_one(self, one: Rendering, plan: Plan, image: Image) -> None:
        assert one.picture is not None
        made_with = {**self.made_with, "precision": str(one.lane.pipeline.dtype).removeprefix("torch.")}
        png = encode(one.picture.pixels, chunks(plan, image, made_with), self.settings.png_compression)
        with self.appearing:
            if one.is_cancelled:
                return
            file = Results(one.work.ticket.folder).publish(plan, image, png)
            self.say(
                {
                    "event": "published",
                    "job": plan.job_id,
                    "image": image.number,
                    "file": file,
                    "seed": image.seed,
                    "seconds": round(time.monotonic() - one.started, 3),
                    "warnings": one.picture.warnings,
                    "memory": self.stock.words(one),
                    "tokenization": one.lane.tokenization,
                }
            )

    def _fail_to_show(self, one: Rendering, error: Exception) -> None:
        """A picture that fails is its image's failure; one of a step only a warning."""
        if one.step is None:
            self.fail(one, error)
        else:
            one.lane.warnings.append(f"there is no picture of step {one.step}: {explained(error)[0]}")
