"""One order to a confined importer ends in one event, whatever becomes of the child."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from invokeai_daemon.root import Root
from invokeai_daemon.workers.ask import Importer, ask_importer, verdict_of
from tests.models.build import (
    call,
    dictionary,
    pickle_of,
    text,
    torch_entries,
    write_checkpoint,
    write_safetensors,
    write_zip,
)
from tests.models.convert import small


def test_the_answer_says_what_the_file_is(root: Root) -> None:
    path = small.write(root.autoimport / "main/cat.safetensors")
    verdict = verdict_of(ask_importer({"order": "identify", "path": str(path)}))
    assert (verdict.state, verdict.identity.type, verdict.identity.base) == ("ok", "main", "sd-1")
    assert isinstance(verdict.identity.evidence, tuple) and verdict.identity.evidence


def test_an_import_is_followed_to_its_end(root: Root) -> None:
    path = small.write(root.autoimport / "main/cat.safetensors")
    event = ask_importer({"order": "import", "path": str(path), "root": str(root.path)})
    assert event["event"] == "imported", event.get("reason")
    assert Path(event["entry"]["path"]).is_relative_to(root.models)


def test_one_importer_takes_many_orders_and_outlives_bad_files(tmp_path: Path) -> None:
    evil = pickle_of(dictionary({"w": call("posix.mkdir", text(str(tmp_path / "canary")))}))
    paths = [
        write_zip(tmp_path / "evil.ckpt", torch_entries(evil, {})),
        write_safetensors(tmp_path / "strange.safetensors", {"w": (2,)}),
        tmp_path / "gone.safetensors",
        tmp_path / "name\nwith\x1b[31m.safetensors",
    ]
    with Importer() as importer:
        events = [importer.ask({"order": "identify", "path": str(path)}) for path in paths]
    assert [event["state"] for event in events] == ["rejected", "unknown", "rejected", "rejected"]
    assert "posix.mkdir" in events[0]["reason"]
    assert all(event["reason"].isprintable() for event in events)
    assert not (tmp_path / "canary").exists()


def test_a_child_that_dies_is_a_verdict_and_is_replaced(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"w": (2,)})
    with Importer() as importer:
        importer.ask({"order": "identify", "path": str(path)})
        assert importer._child is not None
        os.kill(importer._child.pid, signal.SIGKILL)
        event = importer.ask({"order": "identify", "path": str(path)})
        assert event["state"] == "rejected"
        assert "The importer died over it: killed by SIGKILL" in event["reason"]
        assert importer.ask({"order": "identify", "path": str(path)})["state"] == "unknown"


@pytest.mark.timeout(60)
def test_a_child_that_says_no_more_is_given_up_before_it_ends(tmp_path: Path) -> None:
    silent = "import os, time; os.close(2); os.close(1); time.sleep(60)"
    with Importer() as importer:
        importer._command = [sys.executable, "-c", silent]
        event = importer.ask({"order": "identify", "path": str(tmp_path / "x.safetensors")})
    assert "The importer died over it" in event["reason"]


def test_an_answer_that_does_not_come_in_time_is_a_verdict(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"w": (2,)})
    start = time.monotonic()
    event = ask_importer({"order": "identify", "path": str(path)}, timeout=0.01)
    assert event["reason"] == f"{path}: Looking at it took longer than 0 s."
    assert time.monotonic() - start < 5


def test_a_folder_of_models_may_be_a_link_to_another_disk(root: Root, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    (root.models / "sd-1").symlink_to(tmp_path / "big disk")
    path = small.write(root.autoimport / "main/cat.safetensors")
    event = ask_importer({"order": "import", "path": str(path), "root": str(root.path)})
    assert event["event"] == "imported", event.get("reason")
    assert list((tmp_path / "big disk").rglob("*.safetensors"))


def test_what_training_left_in_a_file_is_evidence_and_stands_with_its_entry(root: Root) -> None:
    shapes = {name: shape for name, (_, shape) in small.tensors_of().items()}
    leftover = call("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    path = write_checkpoint(root.autoimport / "main/cat.ckpt", shapes, {"callbacks": leftover})
    sentence = (
        "the pickle names leftovers of training (pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint); "
        "they were not loaded"
    )
    with Importer(root.path) as importer:
        assert sentence in importer.ask({"order": "identify", "path": str(path)})["identity"]["evidence"]
        event = importer.ask({"order": "import", "path": str(path), "root": str(root.path)})
    assert event["event"] == "imported", event.get("reason")
    assert event["entry"]["reason"].count(sentence) == 1


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="Landlock is Linux's")
def test_an_importer_that_only_looks_can_write_nothing(root: Root) -> None:
    path = small.write(root.autoimport / "main/cat.safetensors")
    with Importer() as importer:
        event = importer.ask({"order": "import", "path": str(path), "root": str(root.path)})
    if event["event"] == "imported":
        pytest.skip("no Landlock here")
    assert "Permission denied" in event["reason"]
    assert not list(root.models.rglob("*.safetensors"))
