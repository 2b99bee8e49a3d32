"""Pictures and models that a job names: looked up, copied, and there for as long as the job is."""

from __future__ import annotations

import io
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from invokeai_daemon.job.plan_job import from_resolved
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from tests.daemon.desk import QUIET, Desk

JOB = 'prompt = "a cat"\nseed = 1\n'
INIT = JOB + '[init]\nimage = "photo.png"\n'


@pytest.fixture
def desk(root: Root) -> Desk:
    desk = Desk(root)
    desk.register()
    return desk


def picture(size: tuple[int, int] = (100, 70), color: str = "red", kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, color).save(file, kind, **more)
    return file.getvalue()


def inputs(desk: Desk, job_id: str) -> list[str]:
    folder = desk.root.outputs / job_id / "inputs"
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".json")


def told(desk: Desk, job_id: str) -> str:
    return " ".join(desk.error(job_id).split())


# Where pictures are found


def test_a_dropped_folder_becomes_a_job_with_copies_of_its_pictures_and_is_gone(desk: Desk) -> None:
    desk.drop("set/photo.png", picture())
    desk.drop("set/job.toml", INIT)
    desk.tick()
    assert desk.places() == {"running": ["set.toml"]}
    assert inputs(desk, "set") == ["1-photo.png"]
    plan = desk.board.jobs["set"].plan
    assert plan.images[0].init is not None
    assert plan.images[0].init.image == "inputs/1-photo.png"
    assert plan.input("inputs/1-photo.png").asked == "photo.png"
    assert (plan.images[0].width, plan.images[0].height) == (512, 352)
    desk.tick(QUIET)
    assert not (desk.root.inbox / "set").exists()
    assert (desk.root.outputs / "set/inputs/1-photo.png").read_bytes() == picture()


def test_a_picture_beside_the_job_comes_before_one_in_the_root(desk: Desk) -> None:
    (desk.root.path / "photo.png").write_bytes(picture(color="blue"))
    desk.drop("photo.png", picture(color="red"))
    desk.drop("cat.toml", INIT)
    desk.tick()
    assert (desk.root.outputs / "cat/inputs/1-photo.png").read_bytes() == picture(color="red")
    desk.tick(QUIET)
    assert not (desk.root.inbox / "photo.png").exists()
    desk.drop("dog.toml", INIT)
    desk.tick()
    assert (desk.root.outputs / "dog/inputs/1-photo.png").read_bytes() == picture(color="blue")
    assert (desk.root.path / "photo.png").exists()


def test_the_job_that_was_resolved_makes_the_same_when_the_original_is_gone(desk: Desk) -> None:
    desk.drop("photo.png", picture())
    desk.drop("cat.toml", INIT)
    desk.tick()
    written = (desk.root.outputs / "cat/job.toml").read_bytes()
    first = desk.board.jobs["cat"].plan
    assert from_resolved(written, "job.toml") == first
    desk.tick(QUIET)
    desk.drop("again.toml", written)
    desk.tick()
    again = desk.board.jobs["again"].plan
    assert (again.images, again.inputs[0].hash) == (first.images, first.inputs[0].hash)
    assert (desk.root.outputs / "again/inputs/1-photo.png").read_bytes() == picture()


def test_absolute_paths_lead_into_allowed_folders_only(root: Root, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "photo.png").write_bytes(picture())
    (tmp_path / "secret.png").write_bytes(picture())
    (root.path / "link.png").symlink_to(tmp_path / "secret.png")
    desk = Desk(root, Settings.model_validate({"limits": {"free_gb": 0.0, "image_folders": [str(photos)]}}))
    desk.register()
    for name, path in {
        "allowed": photos / "photo.png",
        "outside": tmp_path / "secret.png",
        "link": "link.png",
        "climbs": "outputs/../../secret.png",
        "up": "..",
    }.items():
        desk.drop(f"{name}.toml", JOB + f'[init]\nimage = "{path}"\n')
    desk.tick(4 * QUIET)
    assert desk.places()["running"] == ["allowed.toml"]
    assert "line 4: init.image:" in told(desk, "outside")
    assert "lies outside of the root" in told(desk, "outside")
    assert "image_folders" in told(desk, "link")
    assert "climbs out of its folder" in told(desk, "climbs")
    assert "climbs out of its folder" in told(desk, "up")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("photo.png", b"", "is no picture that can be read"),
        ("photo.png", picture()[:-20], "is damaged"),
        ("photo.jpg", picture(size=(300, 300), kind="JPEG")[:900], "is damaged"),
        ("photo.png", b"<svg/>", "Use PNG, JPEG, WEBP"),
        ("photo.png", picture((5000, 2000)), "has 5000 × 2000 pixels"),
        ("photo.png", b"x" * 50_000, "has 50,000 bytes; the limit is 40,000"),
    ],
)
def test_a_picture_that_cannot_be_used_is_an_error_before_any_step(
    root: Root, name: str, content: bytes, says: str
) -> None:
    limits = {"free_gb": 0.0, "max_pixels": 1024 * 1024, "image_bytes": 40_000}
    desk = Desk(root, Settings.model_validate({"limits": limits}))
    desk.register()
    desk.drop(f"set/{name}", content)
    desk.drop("set/job.toml", INIT.replace("photo.png", name))
    desk.tick()
    desk.tick(3 * QUIET)
    assert "running" not in desk.places()
    assert says in told(desk, "set")
    assert "line 4: init.image: inbox/set/photo" in told(desk, "set")


def test_a_pipe_is_no_picture_and_holds_nobody_up(desk: Desk) -> None:
    os.mkfifo(desk.root.path / "photo.png")
    desk.drop("cat.toml", INIT)
    desk.tick(4 * QUIET)
    assert "is no regular file" in told(desk, "cat")


def test_a_picture_that_lies_on_its_side_counts_as_it_is_seen(desk: Desk) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    desk.drop("photo.png", picture((100, 70), exif=exif))
    desk.drop("cat.toml", INIT)
    desk.tick()
    image = desk.board.jobs["cat"].plan.images[0]
    assert (image.width, image.height) == (352, 512)


# Arriving


def test_a_job_waits_for_a_picture_that_is_copied_after_it(desk: Desk) -> None:
    desk.drop("set/job.toml", INIT)
    desk.tick()
    assert desk.places() == {}
    desk.drop("set/photo.png", picture()[:50], sealed=False)
    desk.tick(2.5 * QUIET)
    desk.drop("set/photo.png", picture()[:-20], sealed=False)
    desk.tick(2.5 * QUIET)
    assert desk.places() == {}
    desk.drop("set/photo.png", picture())
    desk.tick()
    assert desk.places() == {"running": ["set.toml"]}
    desk.tick(QUIET)
    assert not (desk.root.inbox / "set").exists()


def test_a_picture_that_does_not_come_fails_its_job_and_is_named(desk: Desk) -> None:
    desk.drop("set/job.toml", INIT)
    desk.tick()
    desk.tick(3 * QUIET)
    assert desk.places() == {"failed": ["set.error.txt", "set.toml"]}
    assert "line 4: init.image: No picture is at inbox/set/photo.png or outputs/set/photo.png or photo.png." in told(
        desk, "set"
    )
    desk.drop("photo.png", picture())
    shutil.move(desk.root.inbox / "failed/set.toml", desk.root.inbox / "set.toml")
    desk.jobs.look(desk.root.inbox / "set.toml", True, desk.now)
    desk.tick()
    assert desk.places() == {"running": ["set.toml"]}


def test_a_picture_with_a_record_is_an_input_where_a_job_names_it_and_a_job_elsewhere(desk: Desk) -> None:
    import numpy as np

    from invokeai_daemon.job.plan import Image, ModelRef, Plan
    from invokeai_daemon.output.metadata import chunks, versions
    from invokeai_daemon.output.png import encode

    image = Image(1, 7, "a cat", "", 64, 64, 2, 1.0, "euler")
    plan = Plan("old", ModelRef("paint", "", "sd-1"), (image,))
    png = encode(np.zeros((64, 64, 3), np.uint8), chunks(plan, image, versions()), 1)
    desk.drop("set/photo.png", png)
    desk.drop("alone.png", png)
    desk.tick()
    desk.drop("set/job.toml", INIT)
    desk.tick(QUIET)
    desk.tick(QUIET)
    assert desk.places() == {"running": ["alone.toml", "set.toml"], "done": ["alone.png"]}
    assert not (desk.root.inbox / "set").exists()


def test_a_picture_without_a_record_stays_until_a_job_names_it(desk: Desk) -> None:
    desk.drop("photo.png", picture())
    desk.drop("other.jpg", picture(kind="JPEG"))
    desk.tick(QUIET)
    desk.tick(QUIET)
    desk.jobs.scan(desk.now)
    assert desk.jobs.is_settled
    assert {path for _, path in desk.jobs.problems(desk.now)} == {"inbox/photo.png", "inbox/other.jpg"}
    desk.drop("cat.toml", INIT)
    desk.tick()
    desk.tick(QUIET)
    assert desk.places() == {"running": ["cat.toml"]}
    desk.jobs.scan(desk.now)
    assert {path for _, path in desk.jobs.problems(desk.now)} == {"inbox/other.jpg"}
    assert (desk.root.inbox / "other.jpg").exists()


@pytest.mark.parametrize("slip", ["stepz = 3\n", "steps = \n"])
def test_a_job_with_a_mistake_takes_its_pictures_along_and_finds_them_when_it_is_corrected(
    desk: Desk, slip: str
) -> None:
    desk.drop("set/photo.png", picture())
    desk.drop("set/job.toml", slip + INIT)
    desk.tick(QUIET)
    desk.tick(QUIET)
    assert desk.places() == {"failed": ["set.error.txt", "set.toml"]}
    assert not (desk.root.inbox / "set").exists()
    (desk.root.inbox / "failed/set.toml").unlink()
    desk.drop("set.toml", INIT)
    desk.tick()
    assert desk.places() == {"running": ["set.toml"]}
    assert (desk.root.outputs / "set/inputs/1-photo.png").read_bytes() == picture()


def test_jobs_of_one_drop_share_a_picture(desk: Desk) -> None:
    desk.drop("set/photo.png", picture())
    desk.drop("set/a.toml", INIT)
    desk.tick()
    desk.drop("set/b.toml", INIT)
    desk.tick(QUIET)
    desk.tick(QUIET)
    assert desk.places() == {"running": ["set-a.toml", "set-b.toml"]}
    assert not (desk.root.inbox / "set").exists()


# Staying


def test_a_queued_job_needs_its_dropped_folder_no_more(desk: Desk) -> None:
    desk.spool.pause()
    desk.drop("set/photo.png", picture())
    desk.drop("set/job.toml", INIT)
    desk.tick()
    shutil.rmtree(desk.root.inbox / "set")
    desk.spool.resume()
    desk.tick()
    assert desk.places() == {"running": ["set.toml"]}
    assert inputs(desk, "set") == ["1-photo.png"]


def test_a_failed_job_moved_back_goes_on_with_the_same_picture_and_begins_anew_with_another(desk: Desk) -> None:
    desk.drop("photo.png", picture())
    desk.drop("cat.toml", INIT)
    desk.tick()
    desk.render(desk.board.jobs["cat"], fail={1: "no"})
    desk.tick(QUIET)
    desk.edit(desk.root.inbox / "cat.toml", (desk.root.inbox / "failed/cat.toml").read_text())
    (desk.root.inbox / "failed/cat.toml").unlink()
    desk.tick()
    assert list(desk.board.jobs) == ["cat"]
    desk.render(desk.board.jobs["cat"], fail={1: "no"})
    desk.drop("photo.png", picture(color="blue"))
    desk.edit(desk.root.inbox / "cat.toml", (desk.root.inbox / "failed/cat.toml").read_text())
    (desk.root.inbox / "failed/cat.toml").unlink()
    desk.tick()
    assert list(desk.board.jobs) == ["cat-2"]
    plan = desk.board.jobs["cat-2"].plan
    assert (desk.root.outputs / "cat-2" / plan.inputs[0].file).read_bytes() == picture(color="blue")


@pytest.mark.parametrize("harm", ["gone", "another"])
def test_a_job_whose_copies_were_changed_meanwhile_is_not_resumed(desk: Desk, harm: str) -> None:
    desk.drop("photo.png", picture())
    desk.drop("cat.toml", INIT)
    desk.tick()
    copy = desk.root.outputs / "cat/inputs/1-photo.png"
    copy.unlink()
    if harm == "another":
        copy.write_bytes(picture(color="blue"))
    again = Desk(desk.root)
    again.tick()
    assert again.places() == {"failed": ["cat.error.txt", "cat.toml"]}
    assert "inputs/1-photo.png" in told(again, "cat")


# Models


def lora(desk: Desk, name: str = "ink-scenery", **more: Any) -> None:
    source = desk.root.autoimport / "lora" / f"{name}.safetensors"
    source.touch()
    known = {"type": "lora", "format": "lycoris", "dialect": "kohya", "hash": "blake3:0123456789"}
    desk.register(name, path=str(source), source=str(source), **{**known, **more})


def test_adapters_are_found_by_name_and_recorded_with_their_default_weights(desk: Desk) -> None:
    lora(desk, default_settings={"weight": 0.6})
    lora(desk, "gold", hash="blake3:abcdef0123")
    desk.drop("cat.toml", JOB + '[[loras]]\nname = "ink"\n[[loras]]\nname = "gold.safetensors"\nweight = 0.5\n')
    desk.tick()
    plan = desk.board.jobs["cat"].plan
    assert [(each.name, each.weight) for each in plan.images[0].loras] == [("ink-scenery", 0.6), ("gold", 0.5)]
    ink = plan.reference("lora", "ink")
    assert (ink.name, ink.dialect, ink.hash, ink.base) == ("ink-scenery", "kohya", "blake3:0123456789", "sd-1")
    assert plan.reference("lora", "ink-scenery") == ink
    assert from_resolved((desk.root.outputs / "cat/job.toml").read_bytes(), "job.toml") == plan


def test_the_result_names_models_and_pictures_with_their_hashes(desk: Desk) -> None:
    lora(desk)
    desk.drop("photo.png", picture())
    desk.drop("cat.toml", INIT + '[[loras]]\nname = "ink"\n')
    desk.tick()
    desk.render(desk.board.jobs["cat"])
    result = json.loads((desk.root.outputs / "cat/result.json").read_text())
    (reference,), (copy,) = result["references"], result["inputs"]
    assert (reference["type"], reference["name"], reference["hash"]) == ("lora", "ink-scenery", "blake3:0123456789")
    assert "path" not in reference
    assert (copy["asked"], copy["file"]) == ("photo.png", "inputs/1-photo.png")


def test_a_lora_of_the_prompt_is_one_of_the_job(desk: Desk) -> None:
    lora(desk)
    desk.drop("cat.toml", 'prompt = "a cat withLora(ink, 0.7)"\nseed = 1\n')
    desk.tick()
    plan = desk.board.jobs["cat"].plan
    assert [(each.name, each.weight) for each in plan.images[0].loras] == [("ink-scenery", 0.7)]
    desk.drop("again.toml", (desk.root.outputs / "cat/job.toml").read_bytes())
    desk.tick()
    assert desk.board.jobs["again"].plan.images == plan.images


def test_a_job_waits_for_a_lora_that_may_still_come(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + '[[loras]]\nname = "ink"\n')
    desk.tick()
    assert desk.places() == {"waiting": ["cat.toml", "cat.why.txt"]}
    assert 'No LoRA is called "ink". Drop it into autoimport/lora/.' in desk.why("cat")
    lora(desk)
    desk.jobs.queue.recheck_waiting()
    desk.tick()
    assert desk.places() == {"running": ["cat.toml"]}


def test_what_does_not_fit_is_told_all_at_once_with_what_does(desk: Desk) -> None:
    lora(desk, "ink")
    lora(desk, "big", base="sdxl")
    lora(desk, "torn", status="rejected", reason="it is cut off")
    names = "".join(f'[[loras]]\nname = "{name}"\n' for name in ("big", "torn", "paint"))
    desk.drop("cat.toml", JOB + names + '[[controlnets]]\nname = "ink"\nimage = "no.png"\n')
    desk.tick()
    desk.tick(3 * QUIET)
    error = told(desk, "cat")
    assert "5 problems" in error
    assert "line 4: loras[0].name: big is a LoRA for sdxl models; the job's model is of base sd-1. Use ink." in error
    assert "line 6: loras[1].name: torn cannot be used: it is cut off. Use ink." in error
    assert 'line 8: loras[2].name: "paint" is a main model, not a LoRA. Use ink.' in error
    assert 'line 10: controlnets[0].name: "ink" is a LoRA, not a ControlNet. Drop a ControlNet for sd-1' in error
    assert "line 11: controlnets[0].image: No picture is at" in error


def test_a_running_job_whose_lora_was_replaced_is_not_resumed_with_it(desk: Desk) -> None:
    lora(desk)
    desk.drop("cat.toml", JOB + '[[loras]]\nname = "ink"\n')
    desk.tick()
    text = desk.root.registry_file.read_text()
    desk.root.registry_file.write_text(text.replace("blake3:0123456789", "blake3:9999999999"))
    again = Desk(desk.root)
    again.tick()
    assert "The model ink-scenery is another one since the job was begun." in told(again, "cat")


def test_the_copies_say_whose_they_are(desk: Desk) -> None:
    desk.drop("photo.png", picture())
    desk.drop("cat.toml", INIT)
    desk.tick()
    (noted,) = json.loads((desk.root.outputs / "cat/inputs/index.json").read_text())
    assert noted["asked"] == "photo.png"
    assert noted["file"] == "inputs/1-photo.png"
    assert noted["hash"].startswith("sha256:")


# Crashes


class Death(BaseException):
    """The process is killed: nothing that it wanted to do afterwards happens."""


class Mortal:
    """The calls of the system that change the disk; the n-th and all after it do not happen."""

    CALLS = ("rename", "replace", "link", "unlink", "mkdir", "rmdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lives: int) -> None:
        self.left = lives
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._dying(getattr(os, name)))

    def _dying(self, call: Any) -> Any:
        def dying(*arguments: Any, **options: Any) -> Any:
            if self.left == 0:
                raise Death
            self.left -= 1
            return call(*arguments, **options)

        return dying


def drop_aside(root: Root, name: str, files: dict[str, bytes]) -> None:
    aside = root.path / f"aside-{name}"
    aside.mkdir()
    for each, content in files.items():
        (aside / each).write_bytes(content)
    aside.rename(root.inbox / name)


def test_a_crash_at_any_step_loses_no_job_and_no_picture(tmp_path: Path) -> None:
    """Taken in, claimed, rendered: the process dies before its n-th change on the disk, n = 0, 1, 2, …"""
    for lives in range(0, 200, 3):
        root = Root(tmp_path / str(lives))
        root.make()
        Desk(root).register()
        drop_aside(root, "set", {"photo.png": picture(), "other.jpg": picture(kind="JPEG"), "job.toml": INIT.encode()})
        drop_aside(root, "list", {"two.txt": b"a cow -W64 -H64\na dog -W64 -H64\n"})
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, lives)
            with suppress(Death):
                run_down(root)
        run_down(root)
        assert_all_is_done(root)
        if mortal.left:
            break
    else:
        raise AssertionError("the work was never completed")
    assert lives > 30


def run_down(root: Root) -> None:
    desk = Desk(root)
    for _ in range(4):
        desk.tick(QUIET)
        for active in list(desk.board.jobs.values()):
            desk.render(active)


def assert_all_is_done(root: Root) -> None:
    done = {path.stem for path in root.state_folder("done").glob("*.toml")}
    assert done == {"set", "list-two-0001", "list-two-0002"}
    assert (root.outputs / "set/inputs/1-photo.png").read_bytes() == picture()
    assert {path.name for path in root.outputs.iterdir()} == done
    assert not list(root.outputs.rglob(".tmp-*"))
    assert [path.name for path in root.inbox.rglob("*") if path.suffix in (".png", ".jpg")] == ["other.jpg"]
