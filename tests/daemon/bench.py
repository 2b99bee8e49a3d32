"""The intake of one root on a bench: its clock is ours, the importer is real."""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Callable
from pathlib import Path

from invokeai_daemon.daemon.intake import Intake
from invokeai_daemon.daemon.notify import Notifier
from invokeai_daemon.daemon.supervise import Worker
from invokeai_daemon.daemon.watch import Watch
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from tests.models.convert import small

QUIET = 10.0
IMPORTER = [sys.executable, "-m", "invokeai_daemon.workers.importer"]


class Bench:
    """The intake of one root; `now` is its clock, the importer is real."""

    def __init__(self, root: Root, importer: list[str] = IMPORTER, **settings: object) -> None:
        self.root, self.now = root, 1000.0
        self.registry = Registry(root)
        self.selector = selectors.DefaultSelector()
        self.watch = Watch(lambda: None, 5.0, force_polling=True)
        self.worker = Worker("importer", importer, self.selector, 3600.0)
        loaded = Settings.model_validate({"watch": {"model_quiet_seconds": QUIET}, **settings})
        self.intake = Intake(root, loaded, self.registry, self.watch, self.worker, Notifier(""))
        self.scan()

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.intake.step(self.now)

    def settle(self, seconds: float = 0.0) -> None:
        """So many seconds later, let everything that is ready go through the importer."""
        self.tick(seconds)
        end = time.monotonic() + 90
        while self.intake.importing and time.monotonic() < end:
            self.selector.select(0.1)
            self.tick()
        assert not self.intake.importing

    def until(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        """Work on, as the loop does, until something is so."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            self.selector.select(0.05)
            self.tick(0.05)

    def scan(self) -> None:
        self.intake.scan(self.now)
        while self.intake.is_scanning:
            self.intake.step(self.now)

    def seal(self, path: Path) -> Path:
        self.intake.look(path, True, self.now)
        return path

    def entry(self, name: str) -> Entry:
        entry = self.registry.get(name)
        assert entry is not None
        return entry

    def close(self) -> None:
        self.intake.stop()
        self.selector.close()


Make = Callable[..., Bench]


def model(root: Root, name: str = "main/cat.safetensors") -> Path:
    path = root.autoimport / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return small.write(path)


def orders(bench: Bench) -> list[str]:
    """Record the paths that the importer is asked about."""
    asked: list[str] = []
    send = bench.worker.send

    def recording(order: dict[str, object]) -> None:
        if order["order"] == "import":
            asked.append(str(order["path"]))
        send(order)

    bench.worker.send = recording  # type: ignore[method-assign]
    return asked


def lora(path: Path, seed: int = 0, context: int = 768, rank: int = 4) -> Path:
    """A small LoRA in kohya's dialect; the width of its context tells its base."""
    layer = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = {
        f"{layer}.alpha": (),
        f"{layer}.lora_down.weight": (rank, context),
        f"{layer}.lora_up.weight": (640, rank),
    }
    return small.write(path, {name: ("F16", shape) for name, shape in shapes.items()}, seed)
