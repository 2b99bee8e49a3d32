"""What counts as one drop: files of every kind, folders that are one model, caches of a hub, links; real importer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from invokeai_daemon.daemon.intake.tree import MAX_DEPTH
from invokeai_daemon.daemon.settle import Signature
from tests.daemon.bench import QUIET, Bench, lora, model, orders
from tests.models.convert import small


def drop(bench: Bench) -> None:
    """Let what lies in autoimport/ be found and looked at."""
    bench.scan()
    bench.tick(QUIET)
    bench.settle(5 * QUIET)


def named(bench: Bench) -> dict[str, str]:
    return {entry.name: entry.status for entry in bench.registry.models()}


@pytest.mark.parametrize("end", [".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", "", ".xyz"])
def test_whatever_may_be_a_model_gets_a_verdict(bench: Bench, end: str) -> None:
    path = bench.root.autoimport / "main" / f"noise{end}"
    path.write_bytes(b"\x00\x01\x02" * 1000)
    drop(bench)
    entry = bench.entry("noise")
    assert entry.status in ("unknown", "rejected")
    assert str(path) in entry.reason


def test_a_model_without_an_extension_is_known_by_its_bytes(bench: Bench) -> None:
    lora(bench.root.autoimport / "lora/plain")
    drop(bench)
    assert bench.entry("plain").type == "lora"


def test_documents_pictures_and_notes_are_no_models(bench: Bench) -> None:
    names = (
        "LICENSE",
        "README.md",
        "cat.civitai.info",
        "cat.preview.png",
        "list.json",
        "train.py",
        "a.url",
        "b.webloc",
    )
    for name in names:
        (bench.root.autoimport / name).write_bytes(b"words")
    drop(bench)
    assert named(bench) == {}


def test_every_drop_is_one_line_of_the_log_and_one_entry(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "invokeai_daemon")
    lora(bench.root.autoimport / "lora/ink.safetensors")
    (bench.root.autoimport / "lora/noise.bin").write_bytes(b"\x00\x01\x02" * 1000)
    small.write(bench.root.autoimport / "lora/other.safetensors", {"some.weight": ("F16", (4,))})
    drop(bench)
    ends = {"model.imported", "model.unknown", "model.rejected", "model.unusable"}
    lines = [record for record in caplog.records if record.getMessage() in ends]
    assert sorted(record.getMessage() for record in lines) == ["model.imported", "model.rejected", "model.unknown"]
    imported = next(record for record in lines if record.getMessage() == "model.imported")
    assert "LoRA" in imported.facts["because"]  # type: ignore[attr-defined]
    assert named(bench) == {"ink": "ok", "noise": "rejected", "other": "unknown"}


# Folders


@pytest.mark.parametrize(
    ("mark", "weights"),
    [
        ("config.json", "model.fp16.safetensors"),
        ("config.json", "diffusion_pytorch_model-00001-of-00002.safetensors"),
        ("adapter_config.json", "adapter_model.safetensors"),
        ("image_encoder.txt", "ip_adapter.bin"),
        ("learned_embeds.bin", "learned_embeds-steps-500.bin"),
        ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.safetensors"),
        ("model_index.json", "unet/diffusion_pytorch_model.safetensors"),
    ],
)
def test_a_folder_with_a_mark_is_one_model(bench: Bench, mark: str, weights: str) -> None:
    asked = orders(bench)
    folder = bench.root.autoimport / "main/one"
    small.write(_made(folder / weights), {"some.weight": ("F16", (4,))})
    if not (folder / mark).exists():
        (folder / mark).write_text("{}")
    drop(bench)
    assert asked == [str(folder)]
    assert list(named(bench)) == ["one"]


def test_a_folder_that_holds_other_weights_beside_parts_is_a_collection(bench: Bench) -> None:
    folder = bench.root.autoimport / "lora/mine"
    for seed, name in enumerate(("pytorch_lora_weights", "ink", "pen")):
        lora(folder / f"{name}.safetensors", seed)
    (folder / "config.json").write_text("{}")
    drop(bench)
    assert named(bench) == {"pytorch_lora_weights": "ok", "ink": "ok", "pen": "ok"}


def test_the_folders_of_a_root_are_never_one_model(bench: Bench) -> None:
    lora(bench.root.autoimport / "lora/pytorch_lora_weights.safetensors")
    lora(bench.root.autoimport / "lora/deeper/ink.safetensors", 1)
    drop(bench)
    assert named(bench) == {"pytorch_lora_weights": "ok", "ink": "ok"}


def test_parts_that_came_before_their_folder_are_forgotten_with_its_arrival(bench: Bench) -> None:
    folder = bench.root.autoimport / "main/slow"
    lora(folder / "unet/diffusion_pytorch_model.safetensors")
    drop(bench)
    assert list(named(bench)) == ["diffusion_pytorch_model"]
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    drop(bench)
    assert list(named(bench)) == ["slow"]


def test_of_a_hub_cache_the_current_snapshot_is_a_model_called_like_its_repository(bench: Bench) -> None:
    repository = bench.root.autoimport / "models--owner--ink-lora"
    for revision, seed in (("aaa", 1), ("bbb", 2)):
        blob = lora(_made(repository / "blobs" / f"blob{revision}"), seed)
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (snapshot / "pytorch_lora_weights.safetensors").symlink_to(os.path.relpath(blob, snapshot))
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("aaa")
    (repository / ".no_exist").mkdir()
    drop(bench)
    (entry,) = bench.registry.models()
    assert (entry.name, entry.type, entry.status) == ("ink-lora", "lora", "ok")
    assert entry.source == str(repository / "snapshots/aaa")


def test_links_are_followed_and_loops_end(bench: Bench, tmp_path: Path) -> None:
    own = lora(tmp_path / "disk/a.safetensors", 1)
    lora(tmp_path / "disk/deep/b.safetensors", 2)
    (tmp_path / "disk/deep/back").symlink_to(bench.root.autoimport)
    (bench.root.autoimport / "lora/linked.safetensors").symlink_to(own)
    (bench.root.autoimport / "disk").symlink_to(tmp_path / "disk")
    drop(bench)
    assert len(named(bench)) == 2
    assert set(named(bench).values()) == {"ok"}
    assert bench.registry.find("b").source == str(bench.root.autoimport / "disk/deep/b.safetensors")


def test_a_folder_that_is_linked_in_while_running_is_scanned(bench: Bench, tmp_path: Path) -> None:
    lora(tmp_path / "disk/a.safetensors")
    link = bench.root.autoimport / "disk"
    link.symlink_to(tmp_path / "disk")
    bench.intake.look(link, False, bench.now)
    bench.tick(1.0)
    bench.settle(5 * QUIET)
    assert named(bench) == {"a": "ok"}


def test_hidden_names_and_too_deep_folders_are_skipped(bench: Bench) -> None:
    lora(bench.root.autoimport / ".downloads/x/a.safetensors")
    lora(bench.root.autoimport / ".hidden.safetensors", 1)
    lora(bench.root.autoimport.joinpath(*"d" * MAX_DEPTH, "deep.safetensors"), 2)
    lora(bench.root.autoimport.joinpath(*"d" * (MAX_DEPTH + 1), "deeper.safetensors"), 3)
    drop(bench)
    assert named(bench) == {"deep": "ok"}


def test_a_vae_beside_its_model_is_a_companion_and_alone_a_model(bench: Bench) -> None:
    small.write(bench.root.autoimport / "vae/own.vae.safetensors", small.tensors_of((small.VAE,)))
    model(bench.root)
    small.write(bench.root.autoimport / "main/cat.vae.safetensors", small.tensors_of((small.VAE,)), seed=3)
    drop(bench)
    assert named(bench).keys() == {"own.vae", "cat"}


@pytest.mark.parametrize("end", [".toml", ".vae.safetensors", ".yaml", ".png", ".preview.png", ".json"])
def test_a_companion_that_comes_later_has_the_model_looked_at_again(bench: Bench, end: str) -> None:
    path = bench.seal(model(bench.root))
    bench.settle()
    asked = orders(bench)
    beside = path.with_name(f"cat{end}")
    if end == ".vae.safetensors":
        small.write(beside, small.tensors_of((small.VAE,)), seed=9)
    else:
        beside.write_bytes(b"")
    bench.seal(beside)
    bench.settle(QUIET)
    assert asked == [str(path)]
    assert bench.entry("cat").status == "ok"


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_folders_around_a_file_tell_what_it_leaves_open(bench: Bench) -> None:
    for number, folder in enumerate(("vae", "vae/XL", "vae/sd1.5")):
        path = _made(bench.root.autoimport / folder / f"vae{number}.safetensors")
        small.write(path, small.tensors_of((small.VAE,)), seed=number)
    drop(bench)
    assert bench.entry("vae1").base == "sdxl"
    assert bench.entry("vae2").base == "sd-1"


def test_a_model_of_many_files_is_walked_once_in_a_turn_not_once_for_each(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bench.root.autoimport / "main/crowd"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    files = [folder / "unet" / f"{number}.bin" for number in range(50)]
    for path in files:
        path.touch()
    walked: list[str] = []
    real = Signature.of_folder
    monkeypatch.setattr(Signature, "of_folder", lambda path: walked.append(str(path)) or real(path))
    for path in files:
        bench.intake.look(path, True, 1000.0)
    assert 1 <= len(walked) < 10
    files[0].write_bytes(b"more")
    bench.intake.look(files[0], True, 1001.0)
    bench.tick(QUIET)
    assert not bench.intake.importing, "it did not rest"
