"""The registry is a file that people edit: what they wrote stays, what they broke is named, what vanished is kept."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from invokeai_daemon.errors import ModelError, ModelMissing, UnfitModel
from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from tests.models.identify.build import folder_at


@pytest.fixture
def registry(root: Root) -> Registry:
    return Registry(root)


def entry(root: Root, name: str = "cat", /, **changes: object) -> Entry:
    """A converted model whose folder and source are there."""
    folder = root.models / "sd-1" / "main" / name
    folder.mkdir(parents=True, exist_ok=True)
    source = root.autoimport / "main" / f"{name}.safetensors"
    source.touch()
    values = {
        "name": name,
        "path": str(folder),
        "format": "diffusers",
        "type": "main",
        "base": "sd-1",
        "variant": "normal",
        "prediction_type": "epsilon",
        "hash": f"blake3:{name.encode().hex():0<64}",
        "source": str(source),
    }
    return Entry(**{**values, **changes})  # type: ignore[arg-type]


def write(registry: Registry, text: str) -> None:
    registry.file.write_text(text)


# Reading


def test_a_registry_without_a_file_is_empty(registry: Registry) -> None:
    assert (registry.models(), registry.problems, registry.get("cat")) == ([], (), None)


def test_what_is_added_is_read_back_as_it_was(registry: Registry, root: Root) -> None:
    added = entry(root, default_settings={"width": 64, "cfg_scale": 7.5}, trigger_phrases=("a cat", "k: v"))
    assert registry.add(added) == "cat"
    assert Registry(root).models() == [added]


def test_an_entry_as_json_has_the_keys_that_scripts_rely_on(root: Root) -> None:
    keys = {"name", "type", "base", "format", "variant", "prediction_type", "path", "source", "hash", "status"}
    assert keys <= entry(root).as_json().keys()


def test_paths_inside_the_root_are_written_relative_and_others_absolute(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    registry.add(entry(root, "dog", path="/elsewhere/dog", source="/elsewhere/dog.ckpt"))
    text = registry.file.read_text()
    assert "path: models/sd-1/main/cat\n" in text
    assert "path: /elsewhere/dog\n" in text
    dog = registry.get("dog")
    assert dog is not None
    assert (dog.path, dog.source) == ("/elsewhere/dog", "/elsewhere/dog.ckpt")


def test_a_change_by_hand_is_seen_at_the_next_look(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    write(registry, registry.file.read_text().replace("cat:", "tom:", 1))
    assert [model.name for model in registry.models()] == ["tom"]


def test_names_that_yaml_takes_for_other_things_stay_names(registry: Registry, root: Root) -> None:
    names = ["no", "1.10", "null", "0x10", "2024-01-01", "~", "größe: ß", "- dash", "#hash", "[x]", "a 'b' \"c\""]
    for name in names:
        assert registry.add(entry(root, "x", name=name, source="", hash="")) == name
    assert [model.name for model in Registry(root).models()] == names
    for name in names:
        registry.update(name, description=f"about {name}")
        assert registry.find(name).description == f"about {name}"
    for name in names:
        registry.remove(name)
    assert registry.models() == []


# Status


def test_a_vanished_path_makes_an_entry_missing_and_its_return_makes_it_ok(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    before = registry.file.read_bytes()
    folder = root.models / "sd-1" / "main" / "cat"
    folder.rename(folder.with_name("away"))
    (model,) = registry.models()
    assert model.status == "missing"
    assert str(folder) in model.reason
    folder.with_name("away").rename(folder)
    assert registry.models()[0].status == "ok"
    assert registry.file.read_bytes() == before


def test_an_unknown_or_rejected_file_keeps_its_verdict(registry: Registry, root: Root) -> None:
    registry.add(entry(root, path="", status="rejected", reason="the pickle asks for os.system"))
    (model,) = Registry(root).models()
    assert (model.status, model.reason) == ("rejected", "the pickle asks for os.system")


# Finding


@pytest.mark.parametrize(
    "text", ["cat-one", "CAT-One", "cat-o", "blake3:6361742d6f6e65", "6361742d6f6e65", " cat-one "]
)
def test_a_model_is_found_by_name_beginning_or_hash(registry: Registry, root: Root, text: str) -> None:
    for name in ("cat-one", "cat-two", "dog"):
        registry.add(entry(root, name))
    assert registry.find(text).name == "cat-one"


def test_a_whole_name_counts_more_than_the_beginning_of_a_longer_one(registry: Registry, root: Root) -> None:
    registry.add(entry(root, "cat-two"))
    registry.add(entry(root, "cat"))
    assert registry.find("cat").name == "cat"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cta-one", 'No model is called "cta-one". Did you mean "cat-one"?'),
        ("cat", '"cat" fits several models: cat-one, cat-two. Write more of the name.'),
        ("zebra", "Known are cat-one, cat-two."),
        ("", "No model is called"),
        ("6361", "No model is called"),
    ],
)
def test_what_is_not_found_names_what_is_near(registry: Registry, root: Root, text: str, says: str) -> None:
    for name in ("cat-one", "cat-two"):
        registry.add(entry(root, name))
    with pytest.raises(ModelMissing) as caught:
        registry.find(text)
    assert says in str(caught.value)


def test_a_job_is_told_of_main_models_alone(registry: Registry, root: Root) -> None:
    registry.add(entry(root, "ink", type="lora"))
    with pytest.raises(ModelMissing, match=r"No main model is registered\."):
        registry.usable("zebra")
    registry.add(entry(root, "cat"))
    with pytest.raises(ModelMissing, match=r"Known are cat\. Drop one into"):
        registry.usable("zebra")


def test_an_empty_registry_says_how_to_get_a_model(registry: Registry) -> None:
    with pytest.raises(ModelMissing, match=r"No model is registered\. Drop one into autoimport/"):
        registry.find("cat")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "rejected", "reason": "it is cut off"}, "it is cut off"),
        ({"path": "/gone"}, "/gone is not there"),
        ({"status": "unusable", "reason": "its VAE is missing."}, "cannot be used: its VAE is missing"),
        ({"status": "rejected", "base": "flux", "reason": "it is cut off"}, "it is cut off"),
        ({"status": "unusable", "base": "unknown", "reason": "its base is open"}, "its base is open"),
        ({"base": "unknown", "path": __file__}, "What cat is is not known. Say its type and base in models.yaml"),
    ],
)
def test_a_model_that_cannot_be_rendered_is_found_but_not_usable(
    registry: Registry, root: Root, changes: dict[str, str], says: str
) -> None:
    registry.add(entry(root, **changes))
    assert registry.find("cat").name == "cat"
    with pytest.raises(ModelMissing, match=says):
        registry.usable("cat")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"type": "lora"}, "cat is of type lora; a job needs a main model"),
        ({"type": "vae", "path": "/gone"}, "cat is of type vae; a job needs a main model"),
        ({"base": "sd-2", "variant": "edit"}, "cat is a sd-2 edit model, which cannot be rendered yet"),
        (
            {"base": "flux2"},
            "cat is a flux2 model, which cannot be rendered yet; ordinary sd-1, sd-2, sdxl and sd-3 models",
        ),
        ({"base": "flux2", "status": "unusable", "reason": "its T5 is missing."}, "cannot be rendered yet"),
    ],
)
def test_a_model_that_no_job_can_ever_use_is_told_from_one_that_may_arrive(
    registry: Registry, root: Root, changes: dict[str, str], says: str
) -> None:
    registry.add(entry(root, **changes))
    with pytest.raises(UnfitModel, match=says):
        registry.usable("cat")


@pytest.mark.parametrize("base", ["sd-1", "sd-2", "sdxl", "sd-3", "flux"])
def test_a_job_can_use_ordinary_models_of_these_bases(registry: Registry, root: Root, base: str) -> None:
    registry.add(entry(root, base=base))
    assert registry.usable("cat").base == registry.default_main().base == base


@pytest.mark.parametrize(
    ("base", "variant"), [("sd-1", "edit"), ("sd-2", "depth"), ("sdxl", "edit"), ("sdxl-refiner", None)]
)
def test_a_model_that_only_changes_pictures_is_usable_and_nobodys_default(
    registry: Registry, root: Root, base: str, variant: str | None
) -> None:
    registry.add(entry(root, base=base, variant=variant))
    assert registry.usable("cat").why_not_from_text.endswith("makes none from text")
    with pytest.raises(ModelMissing):
        registry.default_main()
    registry.add(entry(root, "plain"))
    assert registry.default_main().why_not_from_text == ""


def test_an_ordinary_model_is_usable(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    assert registry.usable("ca").name == "cat"


# Adding


def test_a_taken_name_gets_a_number(registry: Registry, root: Root) -> None:
    names = [registry.add(entry(root, f"{n}", name=name)) for n, name in enumerate(["cat", "cat", "Cat", "cat-2"])]
    assert names == ["cat", "cat-2", "Cat-3", "cat-2-2"]


def test_the_same_source_is_the_same_model_and_the_users_words_stay(registry: Registry, root: Root) -> None:
    registry.add(entry(root, default_settings={"width": 512, "steps": 20}))
    text = registry.file.read_text().replace("description: ''", "description: my favourite  # really")
    write(registry, text.replace("width: 512", "width: 640") + "  rating: 5\n")
    name = registry.add(entry(root, hash="blake3:" + "f" * 64, default_settings={"width": 512, "cfg_scale": 5.0}))
    (model,) = registry.models()
    assert name == "cat"
    assert model.hash == "blake3:" + "f" * 64
    assert model.description == "my favourite"
    assert model.default_settings == {"width": 640, "cfg_scale": 5.0}
    assert "# really" in registry.file.read_text()
    assert "rating: 5" in registry.file.read_text()


def test_a_renamed_stanza_is_still_the_model_of_its_source(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    write(registry, registry.file.read_text().replace("cat:", "tom:", 1))
    assert registry.add(entry(root)) == "tom"
    assert [model.name for model in registry.models()] == ["tom"]


def test_a_moved_source_keeps_its_entry(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    source = root.autoimport / "main" / "cat.safetensors"
    moved = source.rename(root.autoimport / "moved.safetensors")
    assert registry.add(entry(root, "moved", hash=registry.find("cat").hash, source=str(moved))) == "cat"
    assert [(model.source, model.aliases) for model in registry.models()] == [(str(moved), ())]


def test_a_verdict_is_replaced_when_a_better_file_comes(registry: Registry, root: Root) -> None:
    registry.add(entry(root, path="", hash="", status="rejected", reason="it is cut off"))
    registry.add(entry(root))
    (model,) = registry.models()
    assert (model.status, model.reason) == ("ok", "")


def test_a_bad_file_in_the_place_of_a_good_one_leaves_the_converted_model_usable(
    registry: Registry, root: Root
) -> None:
    good = entry(root)
    registry.add(good)
    registry.add(entry(root, path=good.source, hash="", status="rejected", reason="it is cut off"))
    model = registry.usable("cat")
    assert (model.path, model.hash) == (good.path, good.hash)
    assert "the new file cannot be used: it is cut off" in model.reason
    registry.add(good)
    assert registry.usable("cat").reason == ""


@pytest.mark.parametrize("name", ["", " ", "\n", "__metadata__", "a\nb: c", "\x1b[2J"])
def test_a_name_that_cannot_be_one_is_made_fit(registry: Registry, root: Root, name: str) -> None:
    given = registry.add(entry(root, "x", name=name))
    assert given.isprintable() and given.strip()
    assert [model.name for model in Registry(root).models()] == [given]


# Editing by hand and by program

BY_HAND = """\
# My models.   Hands off!

cat:                # the first
  path: 'models/sd-1/main/cat'   # quoted
  base: sd-1
  type: main
  mine: {a: 1, b: [2, 3]}

# about dogs
dog:
  description: |
    two
    lines
  type: main
  base: sd-1
  path:   models/sd-1/main/dog
# the end
"""


def test_everything_that_is_not_changed_keeps_every_byte(registry: Registry, root: Root) -> None:
    write(registry, BY_HAND)
    registry.add(entry(root, "bird"))
    assert registry.file.read_text().startswith(BY_HAND)
    registry.update("dog", hash="blake3:" + "0" * 64)
    text = registry.file.read_text()
    assert text.startswith(BY_HAND[: BY_HAND.index("dog:")])
    assert "    two\n    lines\n" in text
    assert "# the end\n" in text
    registry.remove("bird")
    registry.remove("dog")
    remaining = registry.file.read_text()
    assert remaining.startswith(BY_HAND[: BY_HAND.index("dog:")])
    assert "# the end" in remaining
    assert "blake3" not in remaining


def test_a_changed_stanza_keeps_its_comments_order_and_own_keys(registry: Registry) -> None:
    write(registry, BY_HAND)
    registry.update("cat", description="purrs", type="main")
    text = registry.file.read_text()
    for kept in (
        "cat:                # the first\n",
        "path: 'models/sd-1/main/cat'   # quoted\n",
        "mine: {a: 1, b: [2, 3]}",
    ):
        assert kept in text
    assert text.index("path:") < text.index("base:") < text.index("mine:") < text.index("description: purrs")


def test_a_file_without_a_last_newline_is_continued_on_a_new_line(registry: Registry, root: Root) -> None:
    write(registry, "cat:\n  path: x")
    registry.add(entry(root, "dog"))
    assert [model.name for model in registry.models()] == ["cat", "dog"]


def test_windows_line_ends_and_a_byte_order_mark_are_read(registry: Registry, root: Root) -> None:
    registry.file.write_bytes(b"\xef\xbb\xbfcat:\r\n  path: x\r\n  description: d\r\n")
    assert registry.find("cat").description == "d"
    registry.add(entry(root, "dog"))
    assert [model.name for model in registry.models()] == ["cat", "dog"]


def test_the_state_before_a_change_is_kept(registry: Registry, root: Root) -> None:
    write(registry, BY_HAND)
    registry.remove("cat")
    assert (root.configs / "models.yaml.bak").read_text() == BY_HAND


def test_update_and_remove_of_what_is_not_there_say_so(registry: Registry) -> None:
    with pytest.raises(ModelMissing):
        registry.update("cat", description="x")
    with pytest.raises(ModelMissing):
        registry.remove("cat")


def test_update_knows_its_fields(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    with pytest.raises(TypeError, match="colour"):
        registry.update("cat", colour="red")


def test_a_field_set_to_nothing_leaves_the_file(registry: Registry, root: Root) -> None:
    registry.add(entry(root, reason="prediction_type is taken for granted"))
    assert registry.update("cat", reason="").reason == ""
    assert "reason" not in registry.file.read_text()


# Broken files


@pytest.mark.parametrize(
    ("stanza", "says"),
    [
        ("bad: 5\n", "a model has keys and values below its name"),
        ("bad:\n", "a model has keys and values below its name"),
        ("bad:\n  path: a\n  path: b\n", "the key 'path' occurs twice"),
        ("bad:\n  path: &x a\n  source: *x\n", "an alias"),
        ("bad:\n  path: !!python/object:os.system a\n", "the tag"),
        ("bad:\n  ? [a]\n  : b\n", "a name must be plain text"),
        ("good:\n  path: x\n", "the name occurs twice"),
        ("bad:\n  a: " + "[" * 30 + "]" * 30 + "\n", "nested deeper"),
    ],
)
def test_one_bad_stanza_is_named_with_its_line_and_hides_no_other(registry: Registry, stanza: str, says: str) -> None:
    write(registry, f"good:\n  path: a\n{stanza}last:\n  path: c\n")
    assert [model.name for model in registry.models()] == ["good", "last"]
    (problem,) = registry.problems
    assert says in problem.message
    assert problem.line is not None and problem.line >= 3


def test_a_value_of_the_wrong_type_is_named_and_the_entry_kept(registry: Registry) -> None:
    write(registry, "cat:\n  path: x\n  base: 5\n  status: fine\n")
    assert [model.name for model in registry.models()] == ["cat"]
    assert [problem.line for problem in registry.problems] == [1, 1]


@pytest.mark.parametrize(
    "text", ["cat: [", "\t\tcat:", "- a\n- b\n", "just text", "a: 1\n b: 2\n", "cat: " + "[" * 5000]
)
def test_a_file_that_is_no_yaml_keeps_the_last_good_entries_and_is_not_overwritten(
    registry: Registry, root: Root, text: str
) -> None:
    registry.add(entry(root))
    assert registry.models()
    write(registry, text)
    assert [model.name for model in registry.models()] == ["cat"]
    assert registry.problems
    with pytest.raises(ModelError, match="nothing was changed"):
        registry.add(entry(root, "dog"))
    assert registry.file.read_text() == text


def test_a_file_that_is_not_utf_8_is_named_with_its_line(registry: Registry) -> None:
    registry.file.write_bytes(b"cat:\n  description: caf\xe9\n")
    assert registry.models() == []
    assert registry.problems[0].line == 2


def test_a_bomb_of_aliases_is_refused_at_once(registry: Registry) -> None:
    levels = "\n".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12))
    write(registry, f"cat:\n  l0: &l0 [x]\n{levels}\n")
    start = time.process_time()
    assert registry.models() == []
    assert time.process_time() - start < 1


# Files of InvokeAI


def test_stanzas_of_invokeai_2_are_understood(registry: Registry, root: Root) -> None:
    folder_at(root.models / "converted_ckpts" / "my-model")
    write(
        registry,
        """\
my-model:
  description: converted
  format: diffusers
  path: models/converted_ckpts/my-model
  vae: {repo_id: stabilityai/sd-vae-ft-mse}
  default: true
my-ckpt:
  description: not converted
  format: ckpt
  weights: models/ldm/model.ckpt
  config: configs/stable-diffusion/v1-inference.yaml
  width: 512
  height: 640
hub-model:
  description: only a name
  format: diffusers
  repo_id: runwayml/stable-diffusion-v1-5
""",
    )
    model, ckpt, hub = registry.models()
    assert (model.type, model.base, model.variant, model.status) == ("main", "sd-1", "normal", "ok")
    assert (ckpt.format, ckpt.status) == ("checkpoint", "unknown")
    assert ckpt.default_settings == {"width": 512, "height": 640}
    assert "models convert my-ckpt" in ckpt.reason
    assert ckpt.config == str(root.configs / "stable-diffusion" / "v1-inference.yaml")
    assert (model.vae, model.default) == ("stabilityai/sd-vae-ft-mse", True)
    assert (hub.status, "runwayml" in hub.reason) == ("missing", True)
    assert registry.problems == ()


def test_stanzas_of_invokeai_3_are_understood_by_their_keys(registry: Registry, root: Root) -> None:
    folder_at(root.models / "cat")
    stanza = "sd-1/main/my cat:\n  path: models/cat\n  format: diffusers\n  variant: normal\n"
    write(registry, "__metadata__:\n  version: 3.0.0\n" + stanza)
    (model,) = registry.models()
    assert (model.name, model.base, model.type, model.status) == ("my cat", "sd-1", "main", "ok")
    registry.update("my cat", description="purrs")
    assert "sd-1/main/my cat:\n" in registry.file.read_text()
    registry.remove("my cat")
    assert registry.file.read_text() == "__metadata__:\n  version: 3.0.0\n"


# Many, and at once


def test_five_thousand_models_are_read_and_added_to_quickly(registry: Registry, root: Root) -> None:
    folder = root.autoimport / "lora"
    paths = [f"{folder}/ink-{number}.safetensors" for number in range(5250)]
    many = [Entry(Path(path).stem, path, "lycoris", "lora", "sd-1", source=path) for path in paths]
    stanza = "{0}:\n  type: lora\n  base: sd-1\n  format: lycoris\n  path: {1}\n  source: {1}\n\n"
    write(registry, "".join(stanza.format(one.name, one.path) for one in many[:5000]))
    assert len(registry.models()) == 5000
    start = time.process_time()
    registry.add_many(many[5000:])
    assert time.process_time() - start < 1.0
    again = Registry(root)
    start = time.process_time()
    assert len(again.models()) == 5250
    assert time.process_time() - start < 2.0
    start = time.process_time()
    assert all(again.by_source(entry.source) is not None for entry in many)
    assert time.process_time() - start < 1.0


def test_a_broken_stanza_keeps_the_model_that_was_there_and_lets_others_change(registry: Registry, root: Root) -> None:
    registry.add_many([entry(root), entry(root, "dog")])
    text = registry.file.read_text()
    write(registry, text.replace("type: main", "type: a: b", 1).replace("base: sd-1", "base: sdxl"))
    assert [(model.name, model.base) for model in registry.models()] == [("dog", "sdxl"), ("cat", "sd-1")]
    assert [model.name for model in Registry(root).models()] == ["dog"]
    (problem, *_) = registry.problems
    assert problem.line == 6
    write(registry, text)
    assert [model.name for model in registry.models()] == ["cat", "dog"]
    assert registry.problems == ()


def test_pickles_in_an_older_entrys_folder_are_not_opened_here(registry: Registry, root: Root) -> None:
    folder = folder_at(root.models / "cat")
    (folder / "unet" / "diffusion_pytorch_model.bin").touch()
    write(registry, "cat:\n  path: models/cat\n  format: diffusers\n")
    (model,) = registry.models()
    assert (model.status, "models reidentify cat" in model.reason) == ("unknown", True)


def test_the_vae_of_an_older_stanza_is_read_in_all_its_forms(registry: Registry, root: Root) -> None:
    forms = ["{path: vae, subfolder: a}", "models/kl.vae.pt", "{repo_id: x/y}", "x/y", "5"]
    write(registry, "".join(f"m{number}:\n  path: p\n  vae: {form}\n" for number, form in enumerate(forms)))
    found = [model.vae.removeprefix(str(root.path)) for model in registry.models()]
    assert found == ["/vae/a", "/models/kl.vae.pt", "x/y", "x/y", ""]


def test_what_an_editor_saves_during_a_change_is_not_overwritten(registry: Registry, root: Root) -> None:
    registry.add(entry(root))
    with pytest.raises(ModelError, match="changed by somebody else"), registry._changing() as change:
        change.add(entry(root, "dog"))
        write(registry, BY_HAND)
    assert registry.file.read_text() == BY_HAND
    assert registry.add(entry(root, "dog")) == "dog-2"


def test_two_writers_at_once_lose_nothing(root: Root) -> None:
    entries = [entry(root, f"cat-{number}") for number in range(20)]

    def add(some: list[Entry]) -> None:
        registry = Registry(root)
        for one in some:
            registry.add(one)

    writers = [threading.Thread(target=add, args=(entries[part::4],)) for part in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {model.name for model in Registry(root).models()} == {one.name for one in entries}


def test_a_power_cut_leaves_the_old_file_or_the_new_one(
    registry: Registry, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add(entry(root))
    before = registry.file.read_text()

    def fail(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        registry.add(entry(root, "dog"))
    assert registry.file.read_text() == before
    assert [path.name for path in root.configs.iterdir() if path.name.startswith(".tmp")] == []


def test_the_default_model_is_the_marked_one_else_the_first(root: Root) -> None:
    for name in ("first", "second"):
        (root.path / name).mkdir()
    stanzas = "".join(
        f"{name}:\n  type: main\n  base: sd-1\n  format: diffusers\n  path: {name}\n" for name in ("first", "second")
    )
    root.registry_file.write_text(stanzas)
    assert Registry(root).default_main().name == "first"
    root.registry_file.write_text(stanzas + "  default: true\n")
    assert Registry(root).default_main().name == "second"


def test_no_default_model_is_made_up(root: Root) -> None:
    with pytest.raises(ModelMissing, match="No model is registered yet"):
        Registry(root).default_main()
    Registry(root).add(entry(root, base="flux2"))
    with pytest.raises(ModelMissing, match="No sd-1, sd-2, sdxl, sd-3 or flux model is registered yet"):
        Registry(root).default_main()


def test_a_pipe_in_the_place_of_the_file_is_said_and_not_waited_for(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.make()
    os.mkfifo(root.registry_file)
    registry = Registry(root)
    assert registry.models() == []
    assert "not a regular file" in registry.problems[0].message
    with pytest.raises(ModelError, match="nothing was changed"):
        registry.remove_many([])


def test_a_word_that_no_model_has_is_told_with_its_line_and_not_believed(root: Root) -> None:
    root.registry_file.write_text(
        "cat:\n  type: main\n  base: sd-99\n  path: models/cat\n  cpu_only: perhaps\n"
        "  default_settings:\n    weight: heavy\n    steps: 20\n  trigger_phrases: 3\n"
        "dog:\n  type: main\n  base: sd-1\n  path: models/dog\n"
    )
    registry = Registry(root)
    told = "\n".join(map(str, registry.problems))
    for words in ("'sd-99' is no base", "cpu_only: 'perhaps' should be true or false", "weight: 'heavy' should be a"):
        assert words in told
    assert "trigger_phrases: 3 should be a list of texts" in told
    assert all(problem.line == 1 for problem in registry.problems)
    cat = registry.get("cat")
    assert cat is not None
    assert (cat.base, cat.default_settings, cat.trigger_phrases) == ("unknown", {"steps": 20}, ())
    assert registry.get("dog") is not None


def test_the_start_of_a_name_means_a_main_model_where_a_job_says_it(root: Root) -> None:
    registry = Registry(root)
    for name, kind in (("demo-1", "main"), ("demo-vae", "vae")):
        registry.add(Entry(name, str(root.models), "diffusers", kind, "sd-1"))
    assert registry.usable("demo").name == "demo-1"
    with pytest.raises(ModelMissing, match="fits several models"):
        registry.find("demo")
