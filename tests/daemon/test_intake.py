"""What is dropped in autoimport/ becomes models of the registry, or gets a verdict. With the real importer."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.daemon.bench import QUIET, Bench, Make, model, orders
from tests.models.convert import small


def test_a_renamed_in_model_is_registered_at_once_and_left_alone(bench: Bench) -> None:
    path = model(bench.root)
    before = path.read_bytes()
    bench.seal(path)
    bench.settle()
    entry = bench.entry("cat")
    assert (entry.type, entry.base, entry.status) == ("main", "sd-1", "ok")
    assert Path(entry.path).is_relative_to(bench.root.models)
    assert path.read_bytes() == before


def test_a_model_without_an_event_is_registered_after_the_quiet_period(bench: Bench) -> None:
    model(bench.root)
    bench.scan()
    bench.tick(QUIET / 2)
    assert not bench.intake.importing
    bench.settle(QUIET)
    assert bench.entry("cat").status == "ok"


def test_models_are_found_at_any_depth_and_in_linked_folders(bench: Bench, tmp_path: Path) -> None:
    store = tmp_path / "elsewhere"
    store.mkdir()
    small.write(store / "far.safetensors", seed=1)
    (bench.root.autoimport / "link").symlink_to(store)
    (store / "loop").symlink_to(bench.root.autoimport)
    model(bench.root, "a/b/c/deep.safetensors")
    bench.scan()
    bench.settle(QUIET)
    assert bench.entry("deep").status == bench.entry("far").status == "ok"


def test_a_half_copied_model_is_left_alone_until_it_is_whole(bench: Bench) -> None:
    whole = model(bench.root).read_bytes()
    path = bench.root.autoimport / "main/cat.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    bench.seal(path)
    bench.tick(QUIET)
    assert not bench.intake.importing
    path.write_bytes(whole)
    bench.seal(path)
    bench.settle()
    assert bench.entry("cat").status == "ok"


def test_a_model_that_stays_cut_off_gets_a_verdict_and_recovers_when_it_is_completed(bench: Bench) -> None:
    path = model(bench.root)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    bench.seal(path)
    bench.tick()
    bench.settle(5 * QUIET)
    entry = bench.entry("cat")
    assert entry.status == "rejected"
    assert "100 of its" in entry.reason
    path.write_bytes(whole)
    bench.seal(path)
    bench.settle()
    assert bench.entry("cat").status == "ok"


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("noise.safetensors", b"\0\1\2" * 1000, "rejected"),
        ("empty.ckpt", b"", "rejected"),
        ("page.safetensors", b"<!doctype html><html>404</html>", "rejected"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "rejected"),
        ("archive.zip", b"PK\x05\x06" + b"\0" * 18, "rejected"),
        ("words.gguf", b"some words", "rejected"),
    ],
)
def test_what_is_no_model_gets_a_verdict_with_a_reason(bench: Bench, name: str, content: bytes, status: str) -> None:
    path = bench.root.autoimport / name
    path.write_bytes(content)
    bench.scan()
    bench.tick(QUIET)
    bench.settle(5 * QUIET)
    entry = bench.entry(path.stem)
    assert entry.status == status
    assert entry.reason
    assert path.read_bytes() == content


def test_a_verdict_goes_when_its_file_goes(bench: Bench) -> None:
    path = bench.root.autoimport / "noise.safetensors"
    path.write_bytes(b"\0\1\2" * 1000)
    bench.scan()
    bench.tick(QUIET)
    bench.settle(5 * QUIET)
    path.unlink()
    bench.scan()
    assert bench.registry.get("noise") is None


def test_a_converted_model_stays_when_its_original_is_deleted(bench: Bench) -> None:
    path = bench.seal(model(bench.root))
    bench.settle()
    path.unlink()
    bench.scan()
    assert bench.entry("cat").status == "ok"


def test_a_start_reads_nothing_again(bench: Bench, make: Make) -> None:
    bench.seal(model(bench.root))
    (bench.root.autoimport / "noise.ckpt").write_bytes(b"\0\1\2" * 100)
    bench.scan()
    bench.tick(QUIET)
    bench.settle(5 * QUIET)
    again = make()
    asked = orders(again)
    again.settle(5 * QUIET)
    assert asked == []
    assert not again.worker.is_running()


def test_a_start_without_its_notes_finds_the_same_models(bench: Bench, make: Make) -> None:
    bench.seal(model(bench.root))
    bench.settle()
    before = bench.registry.models()
    shutil.rmtree(bench.root.state)
    bench.root.state.mkdir()
    again = make()
    again.settle(QUIET)
    assert again.registry.models() == before


def test_an_edited_sidecar_is_heeded(bench: Bench) -> None:
    path = bench.seal(model(bench.root))
    bench.settle()
    sidecar = path.with_suffix(".toml")
    sidecar.write_text('description = "paints cats"\n')
    bench.seal(sidecar)
    bench.settle(QUIET)
    assert bench.entry("cat").description == "paints cats"


def test_a_lost_conversion_is_made_again(bench: Bench) -> None:
    bench.seal(model(bench.root))
    bench.settle()
    shutil.rmtree(bench.entry("cat").path)
    assert bench.entry("cat").status == "missing"
    bench.scan()
    bench.settle(QUIET)
    assert bench.entry("cat").status == "ok"


def test_companions_and_documents_are_no_models(bench: Bench) -> None:
    model(bench.root)
    for name in ("cat.vae.pt", "cat.yaml", "cat.png", "cat.toml", "notes.txt", ".hidden.safetensors", "x.part"):
        (bench.root.autoimport / "main" / name).write_bytes(b"")
    bench.scan()
    bench.settle(QUIET)
    assert [entry.name for entry in bench.registry.models()] == ["cat"]


def test_parts_of_a_folder_that_is_still_arriving_are_no_models(bench: Bench) -> None:
    part = bench.root.autoimport / "main/big/unet/diffusion_pytorch_model.safetensors"
    model(bench.root, "main/big/unet/diffusion_pytorch_model.safetensors")
    bench.seal(part)
    bench.tick(QUIET / 2)
    (bench.root.autoimport / "main/big/model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    bench.seal(bench.root.autoimport / "main/big/model_index.json")
    bench.tick(QUIET)
    bench.settle(5 * QUIET)
    assert [entry.name for entry in bench.registry.models()] == ["big"]


def test_a_deletion_that_was_asked_for_waits_for_the_verified_copy(make: Make) -> None:
    bench = make(**{"import": {"after_import": "delete"}})
    path = bench.seal(model(bench.root))
    bench.settle()
    assert not path.exists()
    assert bench.entry("cat").status == "ok"


def test_nothing_is_deleted_through_a_link(make: Make, tmp_path: Path) -> None:
    bench = make(**{"import": {"after_import": "delete"}})
    own = small.write(tmp_path / "own.safetensors")
    link = bench.root.autoimport / "main/cat.safetensors"
    link.symlink_to(own)
    bench.scan()
    bench.settle(QUIET)
    assert bench.entry("cat").status == "ok"
    assert own.exists()
    assert link.is_symlink()


def test_nothing_is_deleted_behind_a_linked_folder(make: Make, tmp_path: Path) -> None:
    bench = make(**{"import": {"after_import": "delete"}})
    collection = tmp_path / "collection"
    collection.mkdir()
    own = small.write(collection / "own.safetensors")
    (bench.root.autoimport / "main/others").symlink_to(collection)
    bench.scan()
    bench.settle(QUIET)
    assert bench.entry("own").status == "ok"
    assert own.exists()


def test_a_file_that_kills_the_importer_every_time_is_rejected_in_the_end(make: Make) -> None:
    ready = 'import os, sys; os.write(1, b\'{"event": "ready"}\\n\'); sys.stdin.readline(); os.abort()'
    bench = make([sys.executable, "-S", "-c", ready])
    bench.seal(model(bench.root))
    for _ in range(3):
        bench.settle(1000.0)
    entry = bench.entry("cat")
    assert entry.status == "rejected"
    assert "SIGABRT" in entry.reason
    assert "3 times" in entry.reason


def test_an_import_that_takes_too_long_is_given_up(make: Make) -> None:
    sleeper = 'import os, sys, time; os.write(1, b\'{"event": "ready"}\\n\'); time.sleep(600)'
    bench = make(
        [sys.executable, "-S", "-c", sleeper], **{"import": {"timeout_seconds": 60.0}, "limits": {"attempts": 1}}
    )
    bench.seal(model(bench.root))
    end = time.monotonic() + 60
    while not bench.worker.is_ready and time.monotonic() < end:
        bench.tick()
    bench.tick()
    bench.tick(61.0)
    assert "longer than 60 s" in bench.entry("cat").reason


def test_a_broken_registry_is_not_overwritten_and_the_import_is_tried_again(bench: Bench) -> None:
    broken = "cat: {\n"
    bench.root.registry_file.write_text(broken)
    bench.seal(model(bench.root))
    bench.settle()
    assert bench.root.registry_file.read_text() == broken
    assert any("tried again" in what for what, _ in bench.intake.problems(bench.now))
    bench.root.registry_file.unlink()
    bench.settle(1000.0)
    assert bench.entry("cat").status == "ok"


@pytest.mark.parametrize(
    ("kind", "why"),
    [("pipe", "a pipe"), ("device", "a device"), ("loop", "leads back to itself"), ("stray", "not there")],
)
def test_what_is_no_file_is_rejected_without_being_opened(bench: Bench, kind: str, why: str) -> None:
    asked = orders(bench)
    path = bench.root.autoimport / "main/odd.safetensors"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "stray":
            path.symlink_to("nowhere.safetensors")
    bench.scan()
    bench.settle(QUIET)
    entry = bench.entry("odd")
    assert entry.status == "rejected"
    assert why in entry.reason
    assert asked == []
    path.unlink()
    bench.scan()
    assert bench.registry.models() == []


def test_an_idle_importer_is_let_go(bench: Bench) -> None:
    bench.seal(model(bench.root))
    bench.settle()
    assert bench.worker.is_running()
    bench.tick(3600.0)
    assert not bench.worker.is_running()


def test_nothing_is_asked_for_in_the_past(bench: Bench) -> None:
    """Otherwise the loop would spin: while the importer starts or hashes, and while a failed import waits."""
    bench.root.registry_file.write_text("cat: {\n")
    bench.seal(model(bench.root))
    bench.settle()
    bench.root.registry_file.unlink()
    bench.intake.orders.worker.end()
    seen = []
    for _ in range(200):
        bench.tick(1.0)
        seen.append(bench.intake.next_time() >= bench.now)
        bench.selector.select(0.02)
    assert bench.entry("cat").status == "ok"
    assert sum(seen) > 190
