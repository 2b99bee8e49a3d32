"""A renderer without torch: speaks the whole protocol, and publishes PNGs of one colour through output.results.

The daemon's tests start it in place of the real renderer, whose start alone costs seconds. Words in a prompt make it
misbehave: `die`, `die once`, `hang`, `garble`, `fail`, `tired` (a temporary failure), `slow 0.5` (seconds an image).
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import select
import signal
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from invokeai_daemon.job.plan import Image, Plan
from invokeai_daemon.output.metadata import chunks
from invokeai_daemon.output.results import Results
from invokeai_daemon.workers.protocol import decode, encode


def say(**message: Any) -> None:
    os.write(1, encode(message))


def png_of(plan: Plan, image: Image) -> bytes:
    """One colour, told by prompt and seed, with the text chunks of a real result. (numpy would double the start.)"""
    colour = zlib.crc32(f"{image.prompt}{image.seed}".encode()).to_bytes(4, "big")[:3]
    rows = (b"\0" + colour * image.width) * image.height
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0)
    texts = [(b"iTXt", key.encode() + b"\0\0\0\0\0" + value.encode()) for key, value in chunks(plan, image, {}).items()]
    pieces = [(b"IHDR", header), *texts, (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in pieces
    )


class Painter:
    def __init__(self) -> None:
        self.todo: list[tuple[Plan, Image, Path]] = []
        self.rest = b""
        self.stopping = False

    def run(self) -> None:
        say(event="ready", worker="renderer", pid=os.getpid(), device="cpu float32")
        while not self.stopping:
            self.read_orders(0.0 if self.todo else 0.3)
            if self.todo:
                self.paint(*self.todo.pop(0))

    def read_orders(self, timeout: float) -> None:
        ready, _, _ = select.select([0], [], [], timeout)
        if not ready:
            say(event="beat")
            return
        data = os.read(0, 1 << 20)
        if not data:
            sys.exit(0)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.obey(decode(line))

    def obey(self, order: dict[str, Any]) -> None:
        if order["order"] == "stop":
            self.stopping = True
        elif order["order"] == "cancel":
            self.todo = [item for item in self.todo if item[0].job_id != order["job"]]
            say(event="cancelled", job=order["job"])
        else:
            plan = Plan.from_json(order["plan"])
            folder = Path(order["folder"])
            self.todo += [(plan, image, folder) for image in plan.images if image.number in order["images"]]

    def paint(self, plan: Plan, image: Image, folder: Path) -> None:
        say(event="step", job=plan.job_id, image=image.number, step=1, steps=image.steps)
        if image.init is not None:
            (folder / plan.input(image.init.image).file).read_bytes()
        if not self.misbehave(plan, image, folder):
            return
        try:
            name = Results(folder).publish(plan, image, png_of(plan, image))
        except OSError as error:
            say(event="image_failed", job=plan.job_id, image=image.number, error=str(error), temporary=True)
            return
        warnings = ["the picture is one flat colour; …"] if "flat" in plan.model.name else []
        say(
            event="published",
            job=plan.job_id,
            image=image.number,
            file=name,
            seed=image.seed,
            seconds=0.1,
            warnings=warnings,
        )

    def misbehave(self, plan: Plan, image: Image, folder: Path) -> bool:
        """Do what the prompt says; whether the image is to be painted."""
        # A test picture has its own prompt: there the model's name says it.
        prompt = plan.model.name.replace("-", " ") if plan.job_id == ".thumbnail" else image.prompt
        mark = folder / ".died"
        if "die once" in prompt and not mark.exists():
            mark.touch()
            (folder / ".tmp-1-half.png").write_bytes(b"half a picture")
            os.kill(os.getpid(), signal.SIGSEGV)
        if "die" in prompt.split() and "once" not in prompt:
            os.write(2, b"about to die\n")
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in prompt:
            time.sleep(3600)
        if "garble" in prompt and not mark.exists():
            mark.touch()
            os.write(1, b"this is no protocol\n")
            time.sleep(3600)
        if "fail" in prompt or "tired" in prompt:
            error, temporary = ("it looked wrong", False) if "fail" in prompt else ("out of memory", True)
            say(event="image_failed", job=plan.job_id, image=image.number, error=error, temporary=temporary)
            return False
        slow = re.search(r"slow ([\d.]+)", prompt)
        if slow:
            time.sleep(float(slow[1]))
        return True


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # die with the daemon, also in the middle of a nap
    Painter().run()
