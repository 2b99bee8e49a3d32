"""What happens to entries: the same content is one model, a moved file keeps its entry, the user's words stay."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from invokeai_daemon.errors import ModelError
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root

HASH = "blake3:" + "1" * 64
OTHER = "blake3:" + "2" * 64


@pytest.fixture
def registry(root: Root) -> Registry:
    return Registry(root)


def lora(root: Root, name: str = "ink", content: str = "ink", /, **changes: object) -> Entry:
    """A LoRA as it is in autoimport/, used in place; without a hash, as before it is hashed."""
    path = root.autoimport / "lora" / f"{name}.safetensors"
    if not path.exists() or path.read_text() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    values = {"type": "lora", "base": "sd-1", "format": "lycoris", "dialect": "kohya", "source": str(path)}
    return Entry(**{"name": name, "path": str(path), **values, **changes})  # type: ignore[arg-type]


def only(registry: Registry) -> Entry:
    (entry,) = registry.models()
    return entry


# The same content


def test_the_same_content_again_is_one_model_with_two_paths(registry: Registry, root: Root) -> None:
    assert registry.add(lora(root, "ink", hash=HASH)) == "ink"
    copy = lora(root, "copy", hash=HASH)
    assert registry.add(copy) == "ink"
    assert only(registry).aliases == (copy.source,)
    assert "aliases:\n  - autoimport/lora/copy.safetensors\n" in registry.file.read_text()
    assert registry.add(copy) == registry.add(lora(root, hash=HASH)) == "ink"
    assert only(registry).aliases == (copy.source,)


def test_a_second_path_is_found_like_the_first(registry: Registry, root: Root) -> None:
    copy = lora(root, "copy", hash=HASH)
    registry.add_many([lora(root, hash=HASH), copy])
    assert registry.find("copy").name == "ink"
    again = registry.by_source(copy.source)
    assert again is not None and again.name == "ink"


def test_a_second_path_serves_while_the_first_is_gone(registry: Registry, root: Root) -> None:
    first, copy = lora(root, hash=HASH), lora(root, "copy", hash=HASH)
    registry.add_many([first, copy])
    Path(first.path).rename(root.path / "away")
    assert (only(registry).status, only(registry).path) == ("ok", copy.path)
    Path(copy.path).unlink()
    assert only(registry).status == "missing"
    (root.path / "away").rename(first.path)
    assert (only(registry).status, only(registry).path) == ("ok", first.path)


def test_a_hard_link_is_the_same_model_before_anything_is_hashed(registry: Registry, root: Root) -> None:
    first = lora(root)
    registry.add(first)
    linked = Path(first.path).with_name("linked.safetensors")
    linked.hardlink_to(first.path)
    assert registry.add(lora(root, "linked")) == "ink"
    assert only(registry).aliases == (str(linked),)


def test_hashes_that_come_later_make_two_entries_one(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root), lora(root, "copy"), lora(root, "other", "other")])
    hashes = {"ink": {"hash": HASH}, "copy": {"hash": HASH}, "other": {"hash": OTHER}}
    assert registry.update_many(hashes, derived=True) == ["ink", "ink", "other"]
    assert [entry.name for entry in registry.models()] == ["ink", "other"]
    assert registry.find("copy").name == "ink"


def test_the_same_bytes_of_no_use_for_other_reasons_keep_a_reason_each(registry: Registry, root: Root) -> None:
    first, second, third = (lora(root, name, hash=HASH, status="rejected") for name in ("one", "two", "three"))
    registry.add(replace(first, reason=f"{first.source}: its config is no JSON."))
    registry.add(replace(second, reason=f"{second.source}: a part is missing."))
    registry.add(replace(third, reason=f"{third.source}: a part is missing."))
    assert [entry.reason for entry in registry.models()] == [
        f"{first.source}: its config is no JSON.",
        f"{second.source}: a part is missing.",
    ]
    assert registry.models()[1].aliases == (third.source,), "one reason is told once"


def test_what_the_user_edited_is_not_folded_into_another(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root), lora(root, "copy")])
    registry.update("copy", description="mine")
    assert registry.update_many({"ink": {"hash": HASH}, "copy": {"hash": HASH}}, derived=True) == ["copy", "copy"]
    assert (only(registry).name, only(registry).description) == ("copy", "mine")


def test_two_that_the_user_edited_stay_two(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root), lora(root, "copy")])
    registry.file.write_text(registry.file.read_text().replace("path:", "rating: 5\n  path:"))
    assert registry.update_many({"ink": {"hash": HASH}, "copy": {"hash": HASH}}, derived=True) == ["ink", "copy"]
    assert [entry.name for entry in registry.models()] == ["ink", "copy"]


def test_the_same_bytes_said_to_be_something_else_are_another_model(registry: Registry, root: Root) -> None:
    registry.add(lora(root, hash=HASH))
    assert registry.add(lora(root, "copy", hash=HASH, base="sdxl")) == "copy"


def test_a_second_path_with_new_bytes_becomes_a_model_of_its_own(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root, hash=HASH), lora(root, "copy", hash=HASH)])
    assert registry.add(lora(root, "copy", "new bytes")) == "copy"
    ink, copy = registry.models()
    assert (ink.aliases, copy.source) == ((), copy.path)


def test_new_bytes_under_a_name_leave_the_old_ones_to_the_second_path(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root, hash=HASH), lora(root, "copy", hash=HASH)])
    assert registry.add(lora(root, "ink", "new bytes", hash=OTHER)) == "ink"
    found = {entry.name: (entry.hash, Path(entry.source).name, entry.aliases) for entry in registry.models()}
    assert found == {"ink": (OTHER, "ink.safetensors", ()), "copy": (HASH, "copy.safetensors", ())}


# Moved and changed


def test_a_renamed_file_keeps_its_entry_before_it_is_hashed(registry: Registry, root: Root) -> None:
    registry.add(lora(root))
    registry.update("ink", description="my brush")
    before = only(registry)
    moved = Path(before.path).rename(root.autoimport / "lora" / "brush.safetensors")
    assert registry.add(replace(before, name="brush", path=str(moved), source=str(moved), description="")) == "ink"
    assert (only(registry).path, only(registry).description, only(registry).aliases) == (str(moved), "my brush", ())


def test_many_files_that_moved_are_told_with_one_write(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root), lora(root, "pen", "pen")])
    shelf = root.autoimport / "lora" / "shelf"
    shelf.mkdir()
    moves = [
        (root.autoimport / "lora" / f"{name}.safetensors", shelf / f"{name}.safetensors") for name in ("ink", "pen")
    ]
    for source, target in moves:
        source.rename(target)
    assert registry.moved_many([*moves, ("/nowhere", "/else")]) == ["ink", "pen", None]
    assert [entry.status for entry in registry.models()] == ["ok", "ok"]
    assert [entry.path for entry in registry.models()] == [str(target) for _, target in moves]


def test_a_copy_whose_first_is_on_an_unmounted_disk_keeps_both_paths(registry: Registry, root: Root) -> None:
    disk = root.path / "disk"
    disk.mkdir()
    (root.autoimport / "lora" / "disk").symlink_to(disk)
    first = lora(root, "disk/ink", hash=HASH)
    registry.add(first)
    disk.rename(root.path / "unmounted")
    copy = lora(root, "copy", hash=HASH)
    assert registry.add(copy) == "disk/ink"
    assert (only(registry).source, only(registry).aliases) == (copy.source, (first.source,))


def test_new_bytes_under_the_same_name_are_the_same_model_changed(registry: Registry, root: Root) -> None:
    registry.add(lora(root, hash=HASH))
    registry.update("ink", default_settings={"weight": 0.5})
    assert registry.add(lora(root, "ink", "new bytes", base="sdxl")) == "ink"
    entry = only(registry)
    assert (entry.base, entry.hash, entry.default_settings) == ("sdxl", "", {"weight": 0.5})


def test_a_second_look_at_the_same_bytes_keeps_their_hash(registry: Registry, root: Root) -> None:
    registry.add(lora(root))
    registry.update("ink", hash=HASH, derived=True)
    registry.add(lora(root, description="a sidecar came"))
    assert (only(registry).hash, only(registry).description) == (HASH, "a sidecar came")


# The user's words


def test_a_sidecar_that_changes_changes_what_the_user_did_not_write(registry: Registry, root: Root) -> None:
    said = {"description": "one", "trigger_phrases": ("a",), "default_settings": {"weight": 0.5, "steps": 9}}
    registry.add(lora(root, **said))
    registry.update("ink", trigger_phrases=("mine",), default_settings={"weight": 0.9, "steps": 9})
    registry.add(lora(root, description="two", trigger_phrases=("b",), default_settings={"weight": 0.6, "steps": 12}))
    entry = only(registry)
    assert (entry.description, entry.trigger_phrases) == ("two", ("mine",))
    assert entry.default_settings == {"weight": 0.9, "steps": 12}
    registry.add(lora(root))
    assert (only(registry).description, only(registry).default_settings) == ("", {"weight": 0.9})


def test_what_the_user_emptied_stays_empty(registry: Registry, root: Root) -> None:
    registry.add(lora(root, description="noise", default_settings={"weight": 0.5}))
    registry.update("ink", description="", default_settings={})
    registry.add(lora(root, description="noise", default_settings={"weight": 0.5}))
    assert (only(registry).description, only(registry).default_settings) == ("", {})


def test_what_the_user_corrected_stays_corrected(registry: Registry, root: Root) -> None:
    registry.add(lora(root, base="sd-2"))
    registry.file.write_text(registry.file.read_text().replace("base: sd-2", "base: sdxl"))
    registry.add(lora(root, base="sd-2"))
    assert only(registry).base == "sdxl"


def test_without_its_notes_every_word_counts_as_the_users(registry: Registry, root: Root) -> None:
    registry.add(lora(root, description="one"))
    shutil.rmtree(root.state)
    registry.add(lora(root, description="two", base="sdxl"))
    assert (only(registry).description, only(registry).base) == ("one", "sdxl")


def test_notes_that_are_damaged_are_like_none(registry: Registry, root: Root) -> None:
    registry.add(lora(root, description="one"))
    for damaged in ("[]", "{", '{"x": 1}'):
        registry.memory_file.write_text(damaged)
        assert registry.add(lora(root, description="two")) == "ink"
    assert isinstance(json.loads(registry.memory_file.read_text()), dict)


def test_a_picture_that_the_daemon_drew_gives_way_to_a_preview(registry: Registry, root: Root) -> None:
    registry.add(lora(root))
    registry.update("ink", cover_image=str(root.state / "ink.png"), derived=True)
    registry.add(lora(root, cover_image=str(root.autoimport / "ink.png")))
    assert only(registry).cover_image == str(root.autoimport / "ink.png")


def test_a_picture_that_the_daemon_drew_stays_while_the_bytes_do(registry: Registry, root: Root) -> None:
    registry.add(lora(root, hash=HASH))
    registry.update_many({"ink": {"cover_image": str(root.state / "drawn.png")}}, derived=True)
    registry.add(lora(root, hash=HASH, format="diffusers"))
    assert only(registry).cover_image == str(root.state / "drawn.png")
    registry.add(lora(root, hash=OTHER))
    assert only(registry).cover_image == ""


def test_a_name_in_a_sidecar_renames_what_the_user_did_not(registry: Registry, root: Root) -> None:
    registry.add(lora(root))
    source = lora(root).source
    assert registry.add(replace(lora(root), name="brush")) == "brush"
    assert only(registry).source == source
    assert registry.rename("brush", "mine") == "mine"
    assert registry.add(replace(lora(root), name="pen")) == "mine"


def test_a_new_name_is_made_fit_and_numbered_when_taken(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root), lora(root, "pen", "pen")])
    assert registry.rename("pen", "INK") == "INK-2"
    assert registry.rename("INK-2", "no") == "no"
    assert registry.rename("ink", "ink") == "ink"
    assert [entry.name for entry in Registry(root).models()] == ["ink", "no"]


def test_a_renamed_stanza_of_invokeai_3_stays_one(registry: Registry, root: Root) -> None:
    registry.file.write_text("sd-1/main/cat:  # mine\n  path: /x\n  format: diffusers\n")
    registry.rename("cat", "tom")
    assert registry.file.read_text() == "sd-1/main/tom:  # mine\n  path: /x\n  format: diffusers\n"
    assert only(registry).name == "tom"


def test_there_is_one_default(registry: Registry, root: Root) -> None:
    registry.add_many([lora(root), lora(root, "pen", "pen")])
    registry.update("ink", default=True)
    registry.update("pen", default=True)
    assert [entry.default for entry in registry.models()] == [False, True]
    registry.add(lora(root, "pen", "new bytes"))
    assert registry.models()[1].default


# Gone


def test_a_verdict_on_a_deleted_file_is_forgotten_and_one_on_an_unmounted_disk_is_not(
    registry: Registry, root: Root
) -> None:
    disk = root.path / "disk"
    disk.mkdir()
    (root.autoimport / "lora" / "disk").symlink_to(disk)
    registry.add_many(
        [
            lora(root, "deleted", "1", status="rejected", reason="cut off"),
            lora(root, "disk/away", "2", status="unknown", reason="?"),
            lora(root, "there", "3", status="unknown", reason="?"),
            lora(root, "usable", "4"),
        ]
    )
    disk.rename(root.path / "unmounted")
    for name in ("deleted", "usable"):
        (root.autoimport / "lora" / f"{name}.safetensors").unlink()
    assert registry.forgotten() == ["deleted"]
    assert [entry.name for entry in registry.remove_many(registry.forgotten())] == ["deleted"]
    assert [entry.status for entry in registry.models()] == ["unknown", "unknown", "missing"]


def test_an_entry_by_hand_is_the_entry_of_its_file(registry: Registry, root: Root) -> None:
    dropped = lora(root)
    registry.file.write_text("mine:\n  path: autoimport/lora/ink.safetensors\n  type: lora\n  base: sd-1\n")
    assert registry.add(dropped) == "mine"
    assert (only(registry).format, only(registry).source) == ("lycoris", dropped.source)


def test_a_path_that_is_no_utf_8_is_kept(registry: Registry, root: Root) -> None:
    path = os.fsdecode(bytes(root.autoimport / "lora") + b"/caf\xe9.safetensors")
    Path(path).touch()
    registry.add(Entry("café", path, type="lora", base="sd-1", source=path, reason=f"{path} is odd"))
    entry = Registry(root).by_source(path)
    assert entry is not None
    assert (entry.path, entry.status) == (path, "ok")


@pytest.mark.parametrize("text", ["yes", "1.10", "null", "2024-01-01", "two\nlines", "a: b # c", " ", "😀", "\x1b[2J"])
def test_texts_are_read_back_as_they_were(registry: Registry, root: Root, text: str) -> None:
    registry.add(lora(root, description=text, trigger_phrases=(text,)))
    registry.file.write_text(registry.file.read_text().replace("ink:\n", "ink:  # by hand\n"))
    registry.update("ink", source_url=text, default_settings={"negative_prompt": text})
    entry = only(Registry(root))
    assert (entry.description, entry.trigger_phrases, entry.source_url) == (text, (text,), text)
    assert entry.default_settings == {"negative_prompt": text}
    assert "# by hand" in registry.file.read_text()


def test_a_registry_that_is_a_link_to_itself_is_a_broken_one(registry: Registry, root: Root) -> None:
    registry.file.symlink_to(registry.file.name)
    assert not registry.models()
    assert "cannot be opened" in registry.problems[0].message
    with pytest.raises(ModelError, match="Correct the file"):
        registry.add(lora(root))
