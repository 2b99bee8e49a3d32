"""The importer as the daemon runs it: a process that takes orders and tells what it found."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invokeai_daemon.daemon.intake.records import verdict_entry
from invokeai_daemon.models.convert import is_complete
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from invokeai_daemon.workers.protocol import decode, encode
from tests.models.convert import small

Event = dict[str, Any]


class Importer:
    """A running importer; `import_` and `identify` give the event that ends the order."""

    def __init__(self, root: Root, *options: str) -> None:
        self.root = root
        command = [sys.executable, "-m", "invokeai_daemon.workers.importer", "--root", str(root.path), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.orders, self.events = self.process.stdin, self.process.stdout
        self.seen: list[Event] = []
        self.until("ready")

    def until(self, *kinds: str) -> Event:
        while True:
            line = self.events.readline()
            assert line, f"the importer ended after {self.seen}"
            event = decode(line)
            self.seen.append(event)
            if event["event"] in kinds:
                return event

    def import_(self, path: Path) -> Event:
        self.orders.write(encode({"order": "import", "path": str(path), "root": str(self.root.path)}))
        self.orders.flush()
        return self.until("imported", "verdict")

    def identify(self, path: Path) -> Event:
        self.orders.write(encode({"order": "identify", "path": str(path)}))
        self.orders.flush()
        return self.until("verdict")

    def end(self) -> int:
        self.orders.close()
        code = self.process.wait(60)
        self.events.close()
        return code


@pytest.fixture
def importer(root: Root) -> Iterator[Importer]:
    running = Importer(root)
    yield running
    if running.process.poll() is None:
        assert running.end() == 0


@pytest.fixture
def dropped(root: Root) -> Path:
    return small.write(root.autoimport / "main/cat.safetensors")


def test_a_checkpoint_becomes_a_folder_and_an_entry_that_the_registry_takes(
    importer: Importer, dropped: Path, root: Root
) -> None:
    before = dropped.read_bytes()
    event = importer.import_(dropped)
    assert event["event"] == "imported"
    assert event["path"] == str(dropped)
    registry = Registry(root)
    assert registry.add(Entry(**event["entry"])) == "cat"
    entry = registry.find("cat")
    assert (entry.type, entry.base, entry.format, entry.variant, entry.status) == (
        *("main", "sd-1", "diffusers", "normal", "ok"),
    )
    assert entry.source == str(dropped)
    assert entry.hash.startswith("blake3:")
    assert Path(entry.path) == root.models / "sd-1/main/cat"
    assert is_complete(Path(entry.path))
    assert dropped.read_bytes() == before


def test_a_pickle_checkpoint_gives_the_same_tensors(importer: Importer, root: Root) -> None:
    import torch

    plain = small.write(root.autoimport / "main/a.safetensors", small.tensors_of(dtype="F32"))
    pickled = root.autoimport / "main/b.ckpt"
    tensors = {name: torch.zeros(shape) for name, (_, shape) in small.tensors_of().items()}
    torch.save({"state_dict": tensors, "global_step": 3}, pickled)
    folders = [Path(importer.import_(path)["entry"]["path"]) for path in (plain, pickled)]
    for file in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        one, other = (small.contents(folder / f"{file}.safetensors") for folder in folders)
        assert {name: value[:2] for name, value in one.items()} == {name: value[:2] for name, value in other.items()}


def test_the_sidecar_gives_name_words_and_settings(importer: Importer, dropped: Path) -> None:
    dropped.with_suffix(".toml").write_text(
        'name = "Cats"\ndescription = "draws cats"\ntrigger_phrases = ["a cat"]\nprediction_type = "v_prediction"\n'
        "[default_settings]\nwidth = 64\nheight = 64\nsteps = 12\n"
    )
    entry = importer.import_(dropped)["entry"]
    assert entry["name"] == "Cats"
    assert entry["description"] == "draws cats"
    assert entry["trigger_phrases"] == ["a cat"]
    assert entry["prediction_type"] == "v_prediction"
    assert entry["default_settings"] == {"width": 64, "height": 64, "steps": 12}
    scheduler = json.loads(Path(entry["path"], "scheduler/scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"


def test_an_embedding_can_be_named_by_the_words_it_was_trained_with(importer: Importer, root: Root) -> None:
    import torch
    from safetensors.torch import save_file

    path = root.autoimport / "embedding/toy.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"<cat-toy>": torch.zeros(1, 768)}, path)
    assert importer.import_(path)["entry"]["trigger_phrases"] == ["<cat-toy>"]
    path.with_suffix(".toml").write_text('trigger_phrases = ["a toy"]\n')
    assert importer.import_(path)["entry"]["trigger_phrases"] == ["a toy"]


def test_what_was_taken_for_granted_or_left_out_is_said(importer: Importer, root: Root) -> None:
    extra = {f"model_ema.a{place}": ("F16", (2,)) for place in range(2)}
    path = small.write(root.autoimport / "main/cat.safetensors", {**small.tensors_of(), **extra})
    reason = importer.import_(path)["entry"]["reason"]
    assert "prediction_type epsilon is taken for granted" in reason
    assert "2 tensors of an averaged copy (model_ema.…) left out" in reason


def test_importing_again_gives_the_same_folder(importer: Importer, dropped: Path) -> None:
    assert importer.import_(dropped)["entry"] == importer.import_(dropped)["entry"]


def test_a_model_that_lacks_its_vae_is_known_but_unusable_until_one_lies_beside_it(
    importer: Importer, root: Root
) -> None:
    path = small.write(root.autoimport / "main/cat.safetensors", small.tensors_of((small.UNET, small.CLIP)))
    verdict = importer.import_(path)
    assert (verdict["event"], verdict["state"]) == ("verdict", "unusable")
    assert "its VAE is not in the file; drop vae-ft-mse" in verdict["reason"]
    assert verdict["identity"]["base"] == "sd-1"
    assert verdict["temporary"] is False
    small.write(path.with_suffix(".vae.safetensors"), small.tensors_of((small.VAE,)))
    event = importer.import_(path)
    assert event["event"] == "imported", event
    assert Path(event["entry"]["path"], "vae/diffusion_pytorch_model.safetensors").is_file()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/invokeai-daemon-was-here",)


def broken(folder: Path, kind: str) -> Path:
    path = folder / "cat.safetensors"
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "cut off":
            os.truncate(small.write(path), path.stat().st_size - 100 if path.exists() else 5000)
        case "web page":
            path.write_text("<!DOCTYPE html><html></html>")
        case "code":
            path.write_bytes(pickle.dumps(Evil(), protocol=2))
        case "gone":
            pass
        case "bad sidecar":
            small.write(path).with_suffix(".toml").write_text("colour = 3\n")
        case "pipe":
            os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "the file is empty"),
        ("cut off", "cut off"),
        ("web page", "a web page, not a model"),
        ("code", "cat.safetensors"),
        ("gone", "No such file"),
        ("bad sidecar", "colour"),
        ("pipe", "not a regular file"),
    ],
)
def test_what_cannot_be_used_gets_a_verdict_and_the_next_order_is_followed(
    importer: Importer, root: Root, dropped: Path, kind: str, reason: str
) -> None:
    bad = root.autoimport / "main/bad"
    bad.mkdir()
    verdict = importer.import_(broken(bad, kind))
    assert (verdict["event"], verdict["state"]) == ("verdict", "rejected")
    assert reason in verdict["reason"]
    assert importer.import_(dropped)["event"] == "imported"


def test_a_weight_file_of_no_known_kind_is_unknown_and_left_alone(importer: Importer, root: Root) -> None:
    path = small.write(root.autoimport / "main/cat.safetensors", {"some.weight": ("F16", (4,))})
    verdict = importer.import_(path)
    assert verdict["state"] == "unknown"
    assert "cat.safetensors" in verdict["reason"]
    assert not list(root.models.rglob("*.safetensors"))


def test_a_write_that_the_system_refuses_leaves_nothing_and_is_told(root: Root, dropped: Path) -> None:
    import resource

    # A limit on the size of the files it writes, handed down to the process.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        importer = Importer(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    verdict = importer.import_(dropped)
    assert verdict["state"] == "rejected"
    assert "File too large" in verdict["reason"]
    assert not list((root.models / "sd-1/main").iterdir())
    importer.end()


def test_a_folder_of_diffusers_is_registered_where_it_lies(importer: Importer, dropped: Path, root: Root) -> None:
    made = Path(importer.import_(dropped)["entry"]["path"])
    theirs = root.autoimport / "main/theirs"
    made.rename(theirs)
    event = importer.import_(theirs)
    assert event["event"] == "imported", event
    entry = event["entry"]
    assert (entry["name"], entry["path"], entry["source"]) == ("theirs", str(theirs), str(theirs))
    assert (entry["format"], entry["base"]) == ("diffusers", "sd-1")
    assert entry["hash"] == ""
    importer.orders.write(encode({"order": "hash", "path": str(theirs)}))
    importer.orders.flush()
    assert importer.until("hashed", "put_off")["hash"].startswith("blake3:")


def test_identify_only_says_what_it_is(importer: Importer, dropped: Path, root: Root) -> None:
    verdict = importer.identify(dropped)
    assert (verdict["state"], verdict["identity"]["base"], verdict["identity"]["type"]) == ("ok", "sd-1", "main")
    assert verdict["identity"]["evidence"]
    assert not list(root.models.rglob("*"))


def test_it_beats_while_it_has_nothing_to_do(importer: Importer) -> None:
    assert importer.until("beat") == {"event": "beat"}


def test_it_ends_when_told_to_and_when_the_daemon_is_gone(root: Root) -> None:
    importer = Importer(root)
    importer.orders.write(encode({"order": "stop"}))
    assert importer.end() == 0
    assert Importer(root).end() == 0


def test_it_ends_with_an_error_when_it_does_not_understand(root: Root, capfd: pytest.CaptureFixture[str]) -> None:
    importer = Importer(root)
    importer.orders.write(b"what?\n")
    assert importer.end() == 1
    assert "not JSON" in capfd.readouterr().err


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_stays_small_and_never_loads_torch(importer: Importer, dropped: Path) -> None:
    importer.import_(dropped)
    process = Path(f"/proc/{importer.process.pid}")
    assert "libtorch" not in (process / "maps").read_text()
    peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 120_000


def test_what_the_user_says_of_a_model_that_cannot_be_used_goes_along(importer: Importer, root: Root) -> None:
    path = root.autoimport / "lora" / "odd.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    small.write(path, {"strange.weight": ("F16", (4, 4))})
    path.with_suffix(".toml").write_text('name = "Oddity"\ndescription = "from a friend"\ntrigger_phrases = ["odd"]\n')
    event = importer.import_(path)
    assert (event["event"], event["state"]) == ("verdict", "unknown")
    words = {"name": "Oddity", "description": "from a friend", "trigger_phrases": ["odd"]}
    assert event["words"] == words
    entry = verdict_entry(path, event["state"], event["reason"], event["identity"], event["words"])
    assert (entry.name, entry.description, entry.trigger_phrases) == ("Oddity", "from a friend", ("odd",))
