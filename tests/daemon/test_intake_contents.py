"""Which models are the same: moved, copied, changed, unmounted; full hashes that are computed when there is time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import blake3
import pytest

from invokeai_daemon.models.contents import END, fingerprint, full_hash
from invokeai_daemon.models.registry import Entry
from tests.daemon.bench import QUIET, Bench, Make, lora, model, orders
from tests.daemon.test_intake_units import drop


def hash_of(path: Path) -> str:
    return f"blake3:{blake3.blake3(path.read_bytes()).hexdigest()}"


def test_a_file_in_place_is_registered_at_once_and_hashed_when_there_is_time(bench: Bench) -> None:
    path = bench.seal(lora(bench.root.autoimport / "lora/ink.safetensors"))
    bench.settle()
    assert bench.entry("ink").hash == ""
    bench.until(lambda: bench.entry("ink").hash)
    assert bench.entry("ink").hash == hash_of(path)


def test_hashing_gives_way_to_a_model_that_arrives_and_goes_on_later(bench: Bench) -> None:
    # Sparse, but too long to be hashed before the others are there.
    big = lora(bench.root.autoimport / "lora/big.safetensors", context=768, rank=1)
    layer, width = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 1 << 18
    shapes = {f"{layer}.lora_down.weight": (1024, 768), f"{layer}.lora_up.weight": (640, 1024)}
    _write_sparse(big, {**shapes, "other.weight": (1024, width)})
    bench.scan()
    bench.tick(QUIET)
    bench.settle(5 * QUIET)
    bench.until(lambda: bench.intake.orders.is_busy)
    for seed in range(5):
        bench.seal(lora(bench.root.autoimport / f"lora/ink{seed}.safetensors", seed))
    bench.settle()
    assert bench.entry("big").hash == ""
    assert bench.entry("ink4").status == "ok"
    bench.until(lambda: all(entry.hash for entry in bench.registry.models()))


def test_a_start_goes_on_with_the_hashes_that_are_missing(bench: Bench, make: Make) -> None:
    path = bench.seal(lora(bench.root.autoimport / "lora/ink.safetensors"))
    bench.settle()
    bench.close()
    again = make()
    asked = orders(again)
    again.until(lambda: again.entry("ink").hash)
    assert asked == []
    assert again.entry("ink").hash == hash_of(path)


def test_the_same_content_at_two_paths_is_one_model(bench: Bench) -> None:
    first = lora(bench.root.autoimport / "lora/ink.safetensors")
    second = bench.root.autoimport / "lora/copy.safetensors"
    shutil.copy(first, second)
    drop(bench)
    bench.until(lambda: len(bench.registry.models()) == 1)
    (entry,) = bench.registry.models()
    assert {entry.source, *entry.aliases} == {str(first), str(second)}
    asked = orders(bench)
    drop(bench)
    assert asked == []


@pytest.mark.parametrize("hashed", [False, True])
def test_a_moved_file_keeps_its_entry_and_words(bench: Bench, hashed: bool) -> None:
    path = bench.seal(lora(bench.root.autoimport / "lora/ink.safetensors"))
    bench.settle()
    if hashed:
        bench.until(lambda: bench.entry("ink").hash)
    bench.registry.update("ink", description="my own words")
    # As a move between disks does it: a copy with other inode and time.
    target = bench.root.autoimport / "lora/sorted/pen.safetensors"
    target.parent.mkdir()
    target.write_bytes(path.read_bytes())
    path.unlink()
    drop(bench)
    (entry,) = bench.registry.models()
    assert (entry.name, entry.description, entry.status) == ("ink", "my own words", "ok")
    assert entry.source == entry.path == str(target)
    assert bool(entry.hash) >= hashed


def test_new_bytes_under_the_same_name_change_the_model(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "invokeai_daemon")
    path = bench.seal(lora(bench.root.autoimport / "lora/ink.safetensors"))
    bench.settle()
    bench.until(lambda: bench.entry("ink").hash)
    before = bench.entry("ink").hash
    bench.seal(lora(path, seed=1, context=2048))
    bench.settle()
    assert bench.entry("ink").base == "sdxl"
    bench.until(lambda: bench.entry("ink").hash not in ("", before))
    assert bench.entry("ink").hash == hash_of(path)
    assert [record.facts["name"] for record in caplog.records if record.getMessage() == "model.changed"] == ["ink"]  # type: ignore[attr-defined]


def test_a_vanished_file_is_missing_and_comes_back_by_itself(bench: Bench) -> None:
    path = bench.seal(lora(bench.root.autoimport / "lora/ink.safetensors"))
    bench.settle()
    aside = path.rename(bench.root.path / "aside")
    drop(bench)
    assert bench.entry("ink").status == "missing"
    aside.rename(path)
    drop(bench)
    assert bench.entry("ink").status == "ok"


def test_an_unmounted_disk_wipes_neither_entries_nor_verdicts(bench: Bench, tmp_path: Path) -> None:
    """The user's link to a disk leads nowhere for a while."""
    disk = tmp_path / "disk"
    lora(disk / "ink.safetensors")
    (disk / "noise.bin").write_bytes(b"\x00\x01\x02" * 1000)
    (bench.root.autoimport / "disk").symlink_to(disk)
    drop(bench)
    before = {entry.name for entry in bench.registry.models()}
    assert before == {"ink", "noise"}
    disk.rename(tmp_path / "away")
    drop(bench)
    assert {entry.name for entry in bench.registry.models()} == before
    assert bench.entry("ink").status == "missing"
    (tmp_path / "away").rename(disk)
    asked = orders(bench)
    drop(bench)
    assert {entry.name for entry in bench.registry.models()} == before
    assert bench.entry("ink").status == "ok"
    assert asked == []


def test_an_empty_mount_point_wipes_nothing(bench: Bench) -> None:
    folder = bench.root.autoimport / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs privileges")
    try:
        lora(folder / "ink.safetensors")
        (folder / "noise.bin").write_bytes(b"\x00\x01\x02" * 1000)
        drop(bench)
        bench.until(lambda: bench.entry("ink").hash)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    drop(bench)
    assert bench.entry("ink").status == "missing"
    assert bench.entry("noise").status == "rejected"


def test_a_damaged_archive_in_place_is_rejected_when_it_is_hashed(bench: Bench) -> None:
    import torch

    path = bench.root.autoimport / "embedding/word.pt"
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "name": "word"}, path)
    raw = bytearray(path.read_bytes())
    place = raw.find(b"\x00\x00\x80\x3f" * 16)
    raw[place + 2] ^= 1
    path.write_bytes(raw)
    drop(bench)
    assert bench.entry("word").status == "ok"
    bench.until(lambda: bench.entry("word").status == "rejected")
    assert "checksum" in bench.entry("word").reason


def test_a_part_that_arrives_makes_what_waited_for_it_usable(bench: Bench) -> None:
    from tests.models.convert import small

    path = bench.root.autoimport / "main/bare.safetensors"
    small.write(path, small.tensors_of((small.UNET, small.CLIP)))
    drop(bench)
    assert bench.entry("bare").status == "unusable"
    small.write(bench.root.autoimport / "vae/good.safetensors", small.tensors_of((small.VAE,)), seed=4)
    drop(bench)
    assert bench.entry("good").type == "vae"
    assert bench.entry("bare").status == "ok", bench.entry("bare").reason
    assert Path(bench.entry("bare").path, "vae").is_dir()


def test_settings_choose_what_is_converted(make: Make) -> None:
    bench = make(**{"import": {"dtype": "float32"}})
    bench.seal(model(bench.root))
    bench.settle()
    weights = Path(bench.entry("cat").path, "unet/diffusion_pytorch_model.safetensors")
    assert b'"dtype":"F32"' in weights.read_bytes()


# Many at once


def test_a_dead_importer_costs_only_the_file_it_looked_at(bench: Bench) -> None:
    for seed in range(40):
        lora(bench.root.autoimport / f"lora/ink{seed:02}.safetensors", seed)
    bench.scan()
    bench.tick(QUIET)
    bench.until(lambda: bench.worker.is_ready)
    assert bench.worker.pid is not None
    os.kill(bench.worker.pid, signal.SIGSEGV)
    bench.settle()
    bench.settle(1000.0)
    assert [entry.status for entry in bench.registry.models()] == ["ok"] * 40


def test_entries_of_many_files_are_written_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    add_many = bench.registry.add_many

    def counting(entries: list[Entry]) -> list[str]:
        batches.append(len(entries))
        return add_many(entries)

    monkeypatch.setattr(bench.registry, "add_many", counting)
    for seed in range(60):
        lora(bench.root.autoimport / f"lora/ink{seed:02}.safetensors", seed)
    drop(bench)
    assert sum(batches) == 60
    assert len(batches) <= 3


# What hashes cover


def test_a_fingerprint_tells_headers_ends_and_sizes_apart(tmp_path: Path) -> None:
    base = bytearray(os.urandom(4 * END))
    seen = set()
    for change in (None, 0, END - 1, 4 * END - 1, 4 * END):
        raw = bytearray(base)
        if change == len(raw):
            raw += b"\x00"
        elif change is not None:
            raw[change] ^= 1
        path = tmp_path / "x"
        path.write_bytes(raw)
        seen.add(fingerprint(path))
    assert len(seen) == 5


def test_a_folder_has_invokeais_hash(tmp_path: Path) -> None:
    for name in ("b/model.safetensors", "a/model.bin", "config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    joined = "".join(blake3.blake3(name.encode()).hexdigest() for name in ("a/model.bin", "b/model.safetensors"))
    assert full_hash(tmp_path) == f"blake3:{blake3.blake3(joined.encode()).hexdigest()}"


def _write_sparse(path: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """A safetensors file whose values are a hole."""
    entries, position = {}, 0
    for name, (rows, columns) in shapes.items():
        end = position + 2 * rows * columns
        entries[name] = {"dtype": "F16", "shape": [rows, columns], "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + position)
