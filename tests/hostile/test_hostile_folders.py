"""Folders that look like models and mean harm: their configs and parts are read as carefully as single files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invokeai_daemon.models.settled import proof
from invokeai_daemon.root import Root
from invokeai_daemon.workers.ask import Importer
from tests.models.build import call, dictionary, pickle_of, text, torch_entries, write_raw_safetensors, write_zip
from tests.models.convert import small


@pytest.fixture(scope="module")
def importer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Importer, Root, Path]]:
    """One importer, its root, and a whole folder to be spoilt."""
    root = Root(tmp_path_factory.mktemp("root"))
    root.make()
    with Importer(root.path, memory_mb=2048, cpu_seconds=15) as importer:
        source = small.write(root.autoimport / "main/cat.safetensors")
        event = importer.ask({"order": "import", "path": str(source), "root": str(root.path)})
        made = Path(event["entry"]["path"])
        whole = tmp_path_factory.mktemp("folder") / "whole"
        made.rename(whole)
        yield importer, root, whole


def _evil_pickle(path: Path, canary: Path) -> None:
    write_zip(path, torch_entries(pickle_of(dictionary({"w": call("posix.mkdir", text(str(canary)))})), {}))


def _replaced_by_pickle(folder: Path, canary: Path) -> None:
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()
    _evil_pickle(folder / "unet/diffusion_pytorch_model.bin", canary)


def _pickle_named_safetensors(folder: Path, canary: Path) -> None:
    _evil_pickle(folder / "unet/diffusion_pytorch_model.safetensors", canary)


def _index(names: dict[str, str]) -> Callable[[Path, Path], None]:
    def write(folder: Path, _canary: Path) -> None:
        for path in (folder / "unet").glob("*.safetensors"):
            path.unlink()
        index = {"weight_map": names}
        (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))

    return write


def _config(raw: bytes, name: str = "model_index.json") -> Callable[[Path, Path], None]:
    return lambda folder, _canary: (folder / name).write_bytes(raw) and None


def _swap(make: Callable[[Path], object], name: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, _canary: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return write


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 33)


UNET = "unet/diffusion_pytorch_model.safetensors"
SPOILT: dict[str, Callable[[Path, Path], None]] = {
    "a pickle with code": _replaced_by_pickle,
    "a pickle under the name of safetensors": _pickle_named_safetensors,
    "shards above the folder": _index({"w": "../../../../etc/passwd"}),
    "shards with NUL": _index({"w": "a\0b"}),
    "shards that are absolute": _index({"w": "/dev/zero"}),
    "an index of 100,000 shards": _index({f"w{n}": f"{n}.safetensors" for n in range(100_000)}),
    "an index that is a list": _config(b"[]", f"{UNET}.index.json"),
    "a config of 200,000 lists": _config(b"[" * 200_000 + b"]" * 200_000),
    "a config that is a list": _config(b"[1]"),
    "a config that is no JSON": _config(b"\0" * 100),
    "a config of 8 GB": _swap(_sparse, "model_index.json"),
    "a config that is a pipe": _swap(os.mkfifo, "model_index.json"),
    "a config that is a device": _swap(lambda path: path.symlink_to("/dev/zero"), "model_index.json"),
    "a config that leads nowhere": _swap(lambda path: path.symlink_to("nowhere"), "model_index.json"),
    "a config that is a folder": _swap(Path.mkdir, "model_index.json"),
    "a part's config of 8 GB": _swap(_sparse, "unet/config.json"),
    "a part's config that is a pipe": _swap(os.mkfifo, "unet/config.json"),
    "a part's config of 200,000 lists": _config(b"[" * 200_000 + b"]" * 200_000, "unet/config.json"),
    "a part's config of other words": _config(
        b'{"in_channels": {"a": []}, "cross_attention_dim": "x"}', "unet/config.json"
    ),
    "weights that are a pipe": _swap(os.mkfifo, UNET),
    "weights that are a device": _swap(lambda path: path.symlink_to("/dev/zero"), UNET),
    "weights that lead back to themselves": _swap(lambda path: path.symlink_to(path.name), UNET),
    "weights that are cut off": lambda folder, _: os.truncate(folder / UNET, 1000),
    "weights of 2^63": lambda folder, _: write_raw_safetensors(folder / UNET, b"{}", 0, 2**63) and None,
    "a class of code": _config(b'{"_class_name": "os.system", "unet": ["os", "system"]}'),
    "a part of another place": _config(b'{"_class_name": "StableDiffusionPipeline", "../../etc": ["diffusers", "X"]}'),
    "a loop of folders": lambda folder, _: (folder / "unet/loop").symlink_to(folder),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_folder_has_an_answer_in_time_and_runs_nothing(
    importer: tuple[Importer, Root, Path], tmp_path: Path, what: str
) -> None:
    asked, root, whole = importer
    folder, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(whole, folder)
    SPOILT[what](folder, canary)
    start = time.monotonic()
    proof(folder)
    assert time.monotonic() - start < 1, "this holds up the daemon"
    event = asked.ask({"order": "import", "path": str(folder), "root": str(root.path)}, timeout=60)
    assert time.monotonic() - start < 10
    assert "died" not in str(event.get("reason")), event
    assert "fault of invokeai-daemon" not in str(event.get("reason")), event
    if what not in ("a loop of folders", "an index that is a list", "a part's config of other words"):
        assert event["event"] == "verdict", event
        assert event["state"] in ("rejected", "unknown", "unusable")
        assert event["reason"].isprintable()
    assert not canary.exists()
