"""A model that is all there is known at once by its format; one that is not, is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from invokeai_daemon.models.settled import proof
from tests.models.build import (
    dictionary,
    pickle_of,
    tensor,
    torch_entries,
    write_raw_safetensors,
    write_safetensors,
    write_zip,
)


@pytest.fixture(params=["safetensors", "ckpt"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A whole model without holes, of some 16 KB."""
    path = tmp_path / f"cat.{request.param}"
    values = np.arange(4096, dtype=np.float32)
    if request.param == "safetensors":
        safetensors.numpy.save_file({"w": values}, path)
        return path
    pickle = pickle_of(dictionary({"w": tensor("0", (4096,))}))
    return write_zip(path, torch_entries(pickle, {"0": values.tobytes()}))


def test_a_whole_file_is_proven_complete(model: Path) -> None:
    assert proof(model).state == "complete"


def test_no_beginning_of_a_file_passes_for_the_whole(model: Path) -> None:
    raw = model.read_bytes()
    for length in [*range(700), *range(700, len(raw), 997), *range(len(raw) - 200, len(raw))]:
        model.write_bytes(raw[:length])
        assert proof(model).state != "complete", length


def test_a_file_still_growing_says_what_has_not_come(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "cat.safetensors", {"w": (1000,)})
    os.truncate(path, path.stat().st_size - 500)
    assert proof(path) == ("incomplete", f"500 of its {path.stat().st_size + 500:,} bytes have not come")


def test_a_file_that_a_program_still_writes_is_not_proven(model: Path) -> None:
    with model.open("r+b"):
        assert proof(model) == ("unknown", "some program has it open for writing")
    assert proof(model).state == "complete"


def test_a_writer_who_comes_while_we_look_does_not_end_the_process(model: Path) -> None:
    """The kernel signals the holder of a lease; the signal that is asked for is one that does nothing."""
    code = (
        "import os, signal, sys, threading\n"
        "from pathlib import Path\n"
        "from invokeai_daemon.models.settled import proof\n"
        "path = Path(sys.argv[1])\n"
        "def write():\n"
        "    for _ in range(2000):\n"
        "        path.open('r+b').close()\n"
        "writer = threading.Thread(target=write)\n"
        "writer.start()\n"
        "states = set()\n"
        "while writer.is_alive():\n"
        "    states.add(proof(path).state)\n"
        "assert states <= {'complete', 'unknown'}, states\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(model)], check=False, timeout=120)
    assert ended.returncode == 0
    assert signal.getsignal(signal.SIGURG) == signal.SIG_DFL


def test_a_file_whose_room_is_only_reserved_is_not_proven(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "cat.safetensors", {"w": (10 << 20,)})
    found = proof(path)
    if path.stat().st_blocks * 512 >= path.stat().st_size:
        pytest.skip("this file system keeps no holes")
    assert found.state == "unknown"
    assert "holes" in found.reason


def test_a_header_of_a_hundred_megabytes_costs_the_daemon_nothing(tmp_path: Path) -> None:
    path = write_raw_safetensors(tmp_path / "cat.safetensors", b"{", 99_999_999, length=100_000_000)
    tracemalloc.start()
    found = proof(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.state == "unknown"
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (b"", "incomplete"),
        (bytes(100_000), "incomplete"),
        (b"<html>", "unknown"),
        (b"version https://git-lfs.github.com/spec/v1\n", "unknown"),
        (b"\x80\x02}.", "unknown"),
        (b"\x10\0\0\0\0\0\0\0{nonsense nonsense", "unknown"),
        (b"PK\3\4" + bytes(100), "incomplete"),
        (b"PK\3\4" + bytes(100) + b"PK\5\6" + bytes(18), "unknown"),
    ],
)
def test_what_proves_nothing_is_left_to_time(tmp_path: Path, content: bytes, state: str) -> None:
    (tmp_path / "cat.safetensors").write_bytes(content)
    found = proof(tmp_path / "cat.safetensors")
    assert found.state == state
    assert found.reason


def test_a_safetensors_file_with_bytes_too_many_is_left_to_time(model: Path) -> None:
    with model.open("ab") as file:
        file.write(b"junk")
    assert proof(model).state != "complete"


def test_what_is_gone_or_no_file_proves_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert proof(tmp_path / "pipe").state == "unknown"
    assert proof(tmp_path / "gone").state == "unknown"


# Folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "cat"
    parts = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    index = {"_class_name": "StableDiffusionPipeline", **{part: ["diffusers", name] for part, name in parts.items()}}
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": ["stable_diffusion", "Checker"]}
    for part in parts:
        (path / part).mkdir(parents=True)
        (path / part / "config.json").write_text("{}")
        safetensors.numpy.save_file({"w": np.ones(100, np.float32)}, path / part / "model.safetensors")
    (path / "tokenizer").mkdir()
    (path / "tokenizer" / "vocab.json").write_text("{}")
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def test_a_whole_folder_is_proven_complete_though_its_safety_checker_is_left_out(folder: Path) -> None:
    assert proof(folder).state == "complete"


@pytest.mark.parametrize(
    "name", ["unet/model.safetensors", "unet/config.json", "vae/model.safetensors", "tokenizer/vocab.json"]
)
def test_a_folder_whose_part_has_not_come_is_incomplete(folder: Path, name: str) -> None:
    (folder / name).unlink()
    found = proof(folder)
    assert found.state == "incomplete"
    assert found.reason.startswith(name.partition("/")[0])


def test_a_folder_whose_weights_are_still_copied_is_incomplete(folder: Path) -> None:
    weights = folder / "unet" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 10)
    assert proof(folder).state == "incomplete"


def test_a_folder_lacking_a_shard_is_incomplete(folder: Path) -> None:
    index = {"weight_map": {"w": "model.safetensors", "v": "model-2.safetensors"}}
    (folder / "unet" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert proof(folder) == ("incomplete", "unet: model-2.safetensors has not come")


def test_a_folder_whose_index_is_half_written_is_incomplete(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"unet": ')
    assert proof(folder).state == "incomplete"


def test_a_folder_without_an_index_proves_nothing(tmp_path: Path) -> None:
    assert proof(tmp_path).state == "unknown"
