"""The whole way with the real workers: a checkpoint dropped becomes a model, a job dropped becomes a picture."""

from __future__ import annotations

import os
import signal
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from invokeai_daemon.models.registry import Registry
from invokeai_daemon.output.metadata import read_record
from invokeai_daemon.root import Root
from tests.daemon.conftest import QUICK, Served, check_root, wait_until

JOB = 'model = "tiny"\nprompt = "a red circle"\nwidth = 64\nheight = 64\nsteps = 3\nseed = 7\n'


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from demo_model.export import write
    from tests.engine.build import build_model

    folder = tmp_path_factory.mktemp("checkpoint")
    build_model(folder / "tiny")
    write(folder / "tiny", folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


@pytest.fixture
def real(root: Root) -> Iterator[Served]:
    served = Served(
        root, {**QUICK, "render": {"device": "cpu", "precision": "float32"}}, "invokeai_daemon.workers.renderer"
    )
    yield served
    if served.process is not None and served.process.poll() is None:
        served.process.kill()
        served.process.wait()


def test_a_job_waits_for_its_model_and_its_results_render_again_to_the_same_pixels(
    real: Served, checkpoint: Path
) -> None:
    real.start()
    real.drop("circle.toml", JOB + "iterations = 2\n")
    wait_until(lambda: real.is_in("waiting", "circle.toml"))
    arriving = real.root.autoimport / "main" / ".tiny.safetensors.copying"
    arriving.write_bytes(checkpoint.read_bytes())
    arriving.rename(real.root.autoimport / "main" / "tiny.safetensors")
    wait_until(lambda: real.is_in("done", "circle.toml"), timeout=200)
    assert real.pictures("circle") == ["0001.7.png", "0002.8.png"]
    check_root(real.root, {"circle"})

    job_file = real.root.outputs / "circle" / "job.toml"
    assert tomllib.loads(job_file.read_text())["seed"] == 7
    real.drop("again.toml", job_file.read_bytes())
    real.drop("picture.png", (real.root.outputs / "circle" / "0002.8.png").read_bytes())
    wait_until(lambda: {"again.toml", "picture.toml"} <= set(real.names("done")), timeout=100)
    assert _pixels(real.root, "again", "0001.7.png") == _pixels(real.root, "circle", "0001.7.png")
    assert _pixels(real.root, "picture", "0001.8.png") == _pixels(real.root, "circle", "0002.8.png")
    assert read_record(real.root.outputs / "again" / "0001.7.png").writer == "invokeai-daemon"
    assert real.stop() == 0


def test_kills_of_the_real_renderer_and_of_the_daemon_lose_nothing(real: Served, checkpoint: Path) -> None:
    (real.root.autoimport / "tiny.safetensors").write_bytes(checkpoint.read_bytes())
    names = {f"job{number}" for number in range(4)}
    for name in names:
        real.drop(f"{name}.toml", JOB + 'iterations = 3\nscheduler = "euler_a"\n')
    real.start()
    wait_until(lambda: real.status().get("images", {}).get("done"), timeout=200)
    with suppress(ProcessLookupError):
        os.kill(real.status()["renderer"]["pid"], signal.SIGKILL)
    wait_until(lambda: real.events("worker.died"))
    real.stop(signal.SIGKILL)
    assert real.start(once=True).wait(timeout=250) == 0
    assert {name: len(real.pictures(name)) for name in names} == dict.fromkeys(names, 3)
    assert len(Registry(real.root).models()) == 1
    check_root(real.root, names)


def _pixels(root: Root, job_id: str, name: str) -> bytes:
    from PIL import Image as Picture

    with Picture.open(root.outputs / job_id / name) as picture:
        return picture.tobytes()
