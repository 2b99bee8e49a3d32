"""models: what keeps the registry in order: edit, remove, sync, convert, reidentify, export, import-settings."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from invokeai_daemon.cli.main import run
from invokeai_daemon.models.convert.conversion import MARKER
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root

#: Exit code, standard output, standard error.
Told = tuple[int, str, str]
Command = Callable[..., Told]


@pytest.fixture
def command(root: Root, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("sync", "--json")`: a `models` command of the program, in this process."""
    monkeypatch.setenv("INVOKEAI_DAEMON_ROOT", str(root.path))

    def told(*arguments: str | Path) -> Told:
        code = 1
        try:
            code = run(["models", *map(str, arguments)])
        finally:
            out, err = capsys.readouterr()
        return code, out, err

    return told


@pytest.fixture
def registry(root: Root) -> Registry:
    """Two LoRAs in place and a converted model."""
    registry = Registry(root)
    registry.add_many([lora(root, "ink"), lora(root, "pen"), converted(root, "harbour")])
    return registry


def lora(root: Root, name: str) -> Entry:
    path = root.autoimport / "lora" / f"{name}.safetensors"
    path.write_text(name)
    return Entry(name, str(path), "lycoris", "lora", "sd-1", source=str(path))


def converted(root: Root, name: str) -> Entry:
    folder = derived(root, name)
    source = root.autoimport / "main" / f"{name}.safetensors"
    source.write_text("the user's")
    return Entry(name, str(folder), "diffusers", "main", "sd-1", "normal", "epsilon", "", str(source))


def derived(root: Root, name: str, age: float = 3600) -> Path:
    """A folder as the daemon makes it."""
    folder = root.models / "sd-1" / "main" / name
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights").write_text("x" * 100)
    (folder / MARKER).write_text('{"source": "/from/here.ckpt"}')
    os.utime(folder / MARKER, (time.time() - age, time.time() - age))
    return folder


def picture(path: Path, colour: str = "red") -> Path:
    Image.new("RGB", (64, 48), colour).save(path)
    return path


# edit


def test_what_is_edited_is_what_the_registry_says(command: Command, registry: Registry, tmp_path: Path) -> None:
    code, out, _ = command(
        "edit",
        "ink",
        "description=black, wet",
        "trigger_phrases=ink wash, brush",
        "default_settings.weight=0.8",
        "source_url=https://example.org/ink",
        f"cover_image={picture(tmp_path / 'ink.png')}",
        "base=sdxl",
    )
    assert (code, out) == (
        0,
        "Changed base, cover_image, default_settings.weight, description, source_url, trigger_phrases of ink.\n",
    )
    ink = registry.find("ink")
    assert (ink.description, ink.trigger_phrases, ink.base) == ("black, wet", ("ink wash", "brush"), "sdxl")
    assert (ink.default_settings, ink.cover_image) == ({"weight": 0.8}, str(tmp_path / "ink.png"))
    assert command("edit", "ink", "description=", "default_settings.weight=", "trigger_phrases=")[0] == 0
    ink = registry.find("ink")
    assert (ink.description, ink.default_settings, ink.trigger_phrases, ink.base) == ("", {}, (), "sdxl")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("default_settings.widht=512", 'Did you mean "width"?'),
        ("default_settings.width=770", "770"),
        ("default_settings.scheduler=eulr", "scheduler"),
        ("base=sd1", 'Did you mean "sd-1"?'),
        ("descripton=x", 'Did you mean "description"?'),
        ("hash=blake3:1", "it cannot be edited"),
        ("type=", "type"),
        ("name=", "name"),
        ("default=maybe", "default"),
        ("cover_image=/nowhere.png", "nowhere.png"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_changed(
    command: Command, registry: Registry, word: str, says: str
) -> None:
    before = registry.file.read_bytes()
    code, _, err = command("edit", "ink", "description=new", word)
    assert (code, says in err) == (1, True), err
    assert registry.file.read_bytes() == before


def test_many_are_edited_and_one_that_fails_stops_no_other(command: Command, registry: Registry) -> None:
    code, out, err = command("edit", "ink", "no such", "pen", "description=black")
    assert code == 1
    assert [registry.find(name).description for name in ("ink", "pen")] == ["black", "black"]
    assert 'No model is called "no such"' in err
    assert "2 of 3 done; failed: no such." in err
    code, out, _ = command("edit", "ink", "no such", "description=blue", "--json")
    assert [(one["name"], one["ok"]) for one in json.loads(out)] == [("ink", True), ("no such", False)]


def test_a_renamed_model_keeps_its_folder(command: Command, registry: Registry) -> None:
    path = registry.find("harbour").path
    assert command("edit", "harbour", "name=Boats", "default=true")[0] == 0
    boats = registry.usable("Boats")
    assert (boats.path, boats.default) == (path, True)
    assert registry.get("harbour") is None


def test_whoever_says_what_an_unknown_file_is_hears_of_the_sidecar(command: Command, root: Root) -> None:
    path = root.autoimport / "odd.safetensors"
    path.touch()
    Registry(root).add(Entry("odd", str(path), source=str(path), status="unknown", reason="no known kind"))
    _, out, _ = command("edit", "odd", "type=lora", "base=sd-1")
    assert 'write type = "lora", base = "sd-1" into autoimport/odd.toml' in out


# remove


def test_originals_are_shown_first_and_deleted_only_when_that_is_meant(
    command: Command, registry: Registry, root: Root
) -> None:
    source = root.autoimport / "main" / "harbour.safetensors"
    source.with_suffix(".toml").touch()
    code, _, err = command("remove", "harbour", "--originals")
    assert (code, "would delete autoimport/main/harbour.safetensors" in err, source.exists()) == (1, True, True)
    code, out, _ = command("remove", "harbour", "--originals", "--yes")
    assert (code, source.exists(), source.with_suffix(".toml").exists()) == (0, False, True)
    assert "but not harbour.toml beside it" in out
    assert registry.get("harbour") is None


def test_an_original_behind_a_link_is_never_deleted(command: Command, root: Root, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "far.safetensors").write_text("far")
    (root.autoimport / "lora" / "disk").symlink_to(disk)
    behind = root.autoimport / "lora" / "disk" / "far.safetensors"
    link = root.autoimport / "lora" / "link.safetensors"
    link.symlink_to(disk / "far.safetensors")
    registry = Registry(root)
    registry.add(Entry("far", str(behind), type="lora", base="sd-1", source=str(behind)))
    registry.add(Entry("link", str(link), type="lora", base="sdxl", source=str(link)))
    code, out, _ = command("remove", "far", "link", "--originals", "--yes")
    assert (code, (disk / "far.safetensors").exists(), link.is_symlink()) == (0, True, False)
    assert "autoimport/lora/disk/far.safetensors stays as it is (it lies behind a link)" in out


# sync


def test_sync_tells_what_is_missing_and_what_nothing_names_and_changes_nothing(
    command: Command, registry: Registry, root: Root
) -> None:
    Path(registry.find("ink").path).unlink()
    orphan = derived(root, "forgotten")
    (root.models / "sd-1" / "main" / "by-hand").mkdir()
    before = registry.file.read_bytes()
    code, out, _ = command("sync")
    assert code == 0
    assert "missing  ink: " in out
    assert "orphan  models/sd-1/main/forgotten: " in out
    assert "converted from /from/here.ckpt" in out
    assert "by-hand: 0.0 GB (the daemon did not make it)" in out
    assert "harbour" not in out
    assert (registry.file.read_bytes(), orphan.exists()) == (before, True)
    facts = json.loads(command("sync", "--json")[1])
    assert [one["name"] for one in facts["missing"]] == ["ink"]
    assert [Path(one["path"]).name for one in facts["orphans"]] == ["by-hand", "forgotten"]


def test_sync_removes_what_is_missing_when_asked(command: Command, registry: Registry) -> None:
    Path(registry.find("ink").path).unlink()
    code, out, _ = command("sync", "--remove-missing", "--json")
    assert (code, json.loads(out)["removed"]) == (0, ["ink"])
    assert [entry.name for entry in registry.models()] == ["pen", "harbour"]
    assert "models.yaml and the disk agree" in command("sync")[1]


def test_orphans_are_deleted_only_where_the_daemon_made_them_and_not_at_once(
    command: Command, registry: Registry, root: Root, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / MARKER).write_text("{}")
    os.utime(outside / MARKER, (0, 0))
    shelf = root.models / "sd-1" / "main"
    (shelf / "link").symlink_to(outside)
    (root.models / "sdxl").symlink_to(tmp_path)
    by_hand = shelf / "by-hand"
    by_hand.mkdir()
    old, young = derived(root, "old"), derived(root, "young", age=5)
    assert "young: 0.0 GB, converted from /from/here.ckpt (it was made just now" in command("sync")[1]
    code, out, _ = command("sync", "--delete-orphans", "--json")
    assert (code, json.loads(out)["deleted"]) == (0, [str(old)])
    derived(root, "old")
    assert "deleted  models/sd-1/main/old: 0.0 GB, converted" in command("sync", "--delete-orphans")[1]
    assert [path.exists() for path in (old, young, by_hand, outside / MARKER)] == [False, True, True, True]
    assert Path(registry.find("harbour").path).exists()


def test_dead_second_paths_go_with_what_is_missing(command: Command, root: Root) -> None:
    registry = Registry(root)
    names = registry.add_many([lora(root, "ink")])
    registry.update(names[0], aliases=(str(root.autoimport / "gone.safetensors"),))
    assert f"gone  {root.autoimport}/gone.safetensors, where ink came from" in command("sync")[1]
    command("sync", "--remove-missing")
    assert registry.find("ink").aliases == ()


# export and import-settings


def test_what_is_exported_is_what_invokeai_reads_and_what_comes_back(
    command: Command, registry: Registry, root: Root, tmp_path: Path
) -> None:
    words: dict[str, Any] = {
        "description": "d",
        "source_url": "https://x",
        "trigger_phrases": ("a", "b"),
        "cpu_only": True,
    }
    settings = {"width": 640, "cfg_rescale_multiplier": 0.7}
    cover = str(picture(tmp_path / "cover.png"))
    registry.update("ink", **words, default_settings=settings, cover_image=cover)
    file = tmp_path / "ink.json"
    assert command("export", "ink", "--output", file)[0] == 0
    exported = json.loads(file.read_text())
    assert exported.pop("cover_image").startswith("data:image/png;base64,")
    assert exported == {"name": "ink", **words, "trigger_phrases": ["a", "b"], "default_settings": settings}
    code, out, _ = command("import-settings", file, "--model", "pen")
    assert code == 0, out
    assert registry.find("pen").cover_image == str(root.models / "covers" / "pen.png")
    pen = registry.find("pen")
    assert (pen.description, pen.trigger_phrases, pen.cpu_only) == ("d", ("a", "b"), True)
    assert pen.default_settings == settings
    with Image.open(pen.cover_image) as image:
        assert (image.size, image.convert("RGB").getpixel((0, 0))) == ((64, 48), (255, 0, 0))
    assert command("remove", "pen")[0] == 0
    assert not Path(pen.cover_image).exists()
    assert Path(cover).exists()


def test_all_models_are_exported_as_a_list_that_can_be_imported(
    command: Command, registry: Registry, tmp_path: Path
) -> None:
    registry.update_many({"ink": {"description": "one"}, "pen": {"description": "two"}})
    file = tmp_path / "all.json"
    file.write_text(command("export")[1])
    registry.update_many({"ink": {"description": ""}, "pen": {"description": ""}})
    assert command("import-settings", file)[0] == 0
    assert [registry.find(name).description for name in ("ink", "pen")] == ["one", "two"]


def test_the_json_beside_a_lora_is_understood_as_invokeai_does(
    command: Command, registry: Registry, root: Root
) -> None:
    beside = root.autoimport / "lora" / "ink.json"
    beside.write_text(
        json.dumps(
            {
                "description": "wet ink",
                "notes": "use low weights",
                "activation text": "ink wash, brush ,",
                "preferred weight": 0.7,
                "sd version": "SD1",
            }
        )
    )
    assert command("import-settings", beside)[0] == 0
    ink = registry.find("ink")
    assert (ink.description, ink.trigger_phrases) == ("wet ink | use low weights", ("ink wash", "brush"))
    assert ink.default_settings == {"weight": 0.7}


def bomb() -> str:
    buffer = io.BytesIO()
    Image.new("1", (20000, 20000)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "no JSON"),
        ("[]", "no settings"),
        ("[1]", "no settings"),
        ('{"name": "nobody", "description": "x"}', "no model is called nobody"),
        ('{"name": "ink", "description": 5}', "description"),
        ('{"name": "ink", "default_settings": {"width": "wide"}}', "width"),
        (
            '{"name": "ink", "description": "x", "cover_image": "data:text/html;base64,AAAA"}',
            "no data URL",
        ),
        ('{"name": "ink", "description": "x", "cover_image": "data:image/png;base64,!!"}', "no base64"),
        ('{"name": "ink", "description": "x", "cover_image": "data:image/png;base64,AAAA"}', "no PNG, JPEG or WebP"),
        ('{"name": "ink", "description": "x", "cover_image": "' + bomb() + '"}', "pixels are too many"),
    ],
)
def test_settings_that_cannot_be_are_refused_as_a_whole(
    command: Command, registry: Registry, tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(content)
    before = registry.file.read_bytes()
    code, _, err = command("import-settings", file)
    assert (code, says in err) == (1, True), err
    assert registry.file.read_bytes() == before


def test_settings_that_nobody_knows_are_told(command: Command, registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "ink.json"
    file.write_text('{"default_settings": {"steps": 9, "colour": "red", "vae": null}}')
    assert "Left out, since it is no setting: colour." in command("import-settings", file)[1]
    assert registry.find("ink").default_settings == {"steps": 9}


# convert and reidentify, with the real importer


@pytest.fixture
def demo(root: Root) -> Entry:
    """The demo model's file in autoimport/, registered as the user left it."""
    source = root.autoimport / "main" / "demo.safetensors"
    source.write_bytes((files("invokeai_daemon") / "data" / "demo.safetensors").read_bytes())
    root.registry_file.write_text(f"demo:\n  format: ckpt\n  weights: {source}\n  description: 'shapes'  # mine\n")
    return Registry(root).find("demo")


def test_a_single_file_of_invokeai_2_is_converted_and_again_otherwise(
    command: Command, root: Root, demo: Entry
) -> None:
    assert demo.status == "unknown"
    code, out, err = command("convert", "demo")
    assert (code, out) == (0, "Converted demo to models/sd-1/main/demo.\n"), err
    registry = Registry(root)
    first = registry.usable("demo")
    assert (first.description, "# mine" in root.registry_file.read_text()) == ("shapes", True)
    code, out, err = command("convert", "demo", "--dtype", "float32")
    second = registry.usable("demo")
    assert (code, second.hash) == (0, first.hash), err
    assert second.path != first.path
    assert "The copy before it stays: models/sd-1/main/demo." in out
    assert command("reidentify", "demo")[1] == "demo: the same as before.\n"
    assert registry.usable("demo").path == second.path
    # The daemon looks at the file again and converts as its settings say.
    assert registry.add(replace(first, default=False)) == "demo"
    assert registry.usable("demo").path == second.path
    assert command("convert", "demo", "--dtype", "keep")[0] == 0
    assert registry.usable("demo").path == first.path


def test_what_cannot_be_converted_stays_as_it_was(command: Command, registry: Registry, root: Root) -> None:
    before = registry.file.read_bytes()
    Path(registry.find("pen").path).unlink()
    code, out, err = command("convert", "ink", "pen", "harbour")
    assert (code, out) == (1, "")
    assert "ink is left as it is: " in err
    assert f"pen: {root.autoimport}/lora/pen.safetensors is not there." in err
    assert registry.file.read_bytes() == before
    code, _, err = command("reidentify", "--all")
    assert (code, "harbour stays what it was: " in err) == (1, True)
    assert registry.file.read_bytes() == before
