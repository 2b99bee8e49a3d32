"""The way of a job from a drop in the inbox to its last image."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from tests.daemon.desk import QUIET, WINDOW, Desk

JOB = 'prompt = "a cat"\nwidth = 64\nheight = 64\n'


@pytest.fixture
def desk(root: Root) -> Desk:
    desk = Desk(root)
    desk.register()
    return desk


# Arriving


def test_a_valid_job_is_claimed_at_once_and_its_plan_is_on_disk_first(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + "iterations = 3\n")
    desk.tick()
    assert desk.places() == {"running": ["cat.toml"]}
    assert 'model = "paint"' in (desk.root.outputs / "cat" / "job.toml").read_text()
    assert [image.number for image in desk.board.jobs["cat"].plan.images] == [1, 2, 3]


def test_a_job_whose_images_are_all_published_is_done(desk: Desk) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    desk.render(desk.board.jobs["cat"])
    assert desk.places() == {"done": ["cat.toml"]}
    result = json.loads((desk.root.outputs / "cat" / "result.json").read_text())
    assert [image["state"] for image in result["images"]] == ["done"]


def test_an_invalid_job_fails_after_the_quiet_period_with_all_its_mistakes(desk: Desk) -> None:
    desk.drop("cat.toml", 'prompt = "a cat"\nstepz = 3\nwidth = 770\n')
    desk.tick()
    assert desk.places() == {}
    desk.tick(QUIET)
    assert desk.places() == {"failed": ["cat.error.txt", "cat.toml"]}
    error = desk.error("cat")
    assert "2 problems" in error
    assert "line 2" in error
    assert '"steps"' in error
    assert "768" in error
    assert "move the file back to inbox/" in error


def test_a_half_written_job_that_is_completed_in_time_runs(desk: Desk) -> None:
    path = desk.drop("cat.toml", 'prompt = "a c')
    desk.tick(QUIET / 2)
    path.write_text(JOB)
    desk.jobs.look(path, True, desk.now)
    desk.tick()
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_job_without_an_event_is_taken_after_the_quiet_period(desk: Desk) -> None:
    desk.drop("cat.toml", JOB, sealed=False)
    desk.tick(QUIET / 2)
    assert desk.places() == {}
    desk.tick(QUIET / 2)
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_scan_finds_what_no_event_told(desk: Desk) -> None:
    (desk.root.inbox / "cat.toml").write_text(JOB)
    desk.jobs.scan(desk.now)
    desk.tick(QUIET)
    assert desk.places() == {"running": ["cat.toml"]}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.toml", b"", "prompt"),
        ("broken.toml", b"prompt = ", "line 1"),
        ("utf16.toml", 'prompt = "x"'.encode("utf-16"), "UTF-16"),
        ("binary.toml", bytes(range(256)), "UTF-8"),
        ("big.toml", b"# " + b"x" * 70_000, "larger than 65536 bytes"),
        ("deep.toml", b"x = " + b"[" * 5000, "deep"),
        ("nan.toml", b'prompt = "x"\ncfg_scale = nan', "cfg_scale"),
        ("bool.toml", b'prompt = "x"\nsteps = true', "steps"),
        ("seed.toml", b'prompt = "x"\nseed = -1', "seed"),
        ("huge.toml", b'prompt = "x"\nwidth = 1000000', "width"),
        ("many.toml", b'prompt = "x"\niterations = 100000000', "iterations"),
        ("scheduler.toml", b'prompt = "x"\nscheduler = "k_eular"', "k_euler"),
        ("pixels.toml", b'prompt = "x"\nwidth = 8192\nheight = 8192', "max_pixels"),
        ("kind.toml", b'prompt = "x"\nkind = "dance"', "kind"),
        ("loras.toml", b'prompt = "x"\nloras = [{nam = "ink"}]', "loras[0].nam"),
        ("twice.toml", b'prompt = "x"\nprompt = "y"', "line 2"),
        ("list.txt", b"a cat -s20\na dog -s many\n", "line 2"),
        ("plain.png", b"\x89PNG\r\n\x1a\nno", "PNG"),
        ("text.png", b"not a picture", "PNG"),
        ("empty.txt", b"", "no prompt"),
    ],
)
def test_each_kind_of_bad_job_gets_a_clear_message(desk: Desk, name: str, content: bytes, says: str) -> None:
    desk.drop(name, content)
    desk.drop("good.toml", JOB)
    desk.tick()
    desk.tick(QUIET)
    stem = Path(name).stem
    assert says.lower() in desk.error(stem).lower()
    assert (desk.root.state_folder("failed") / name).read_bytes() == content
    assert "good.toml" in desk.places()["running"]


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.toml",
        "\x1b[31mred.toml",
        "-rf.toml",
        b"bad\xff.toml".decode("utf-8", "surrogateescape"),
        "x" * 240 + ".toml",
        "\u202egnp.toml",
        "trailing .toml",
    ],
)
def test_hostile_names_become_safe_ids(desk: Desk, name: str) -> None:
    desk.drop(name, JOB)
    desk.tick()
    (job_id,) = desk.board.jobs
    assert job_id.isprintable()
    assert (desk.root.outputs / job_id / "job.toml").exists()
    desk.render(desk.board.jobs[job_id])
    assert desk.places() == {"done": [f"{job_id}.toml"]}


def test_a_hostile_name_cannot_disturb_an_error_file(desk: Desk) -> None:
    desk.drop("a\x1b[31mb.toml", "x = 1")
    desk.tick()
    desk.tick(QUIET)
    (error,) = desk.root.state_folder("failed").glob("*.error.txt")
    assert "\x1b" not in error.read_text()


def test_what_is_no_job_is_left_alone_and_reported(desk: Desk) -> None:
    os.mkfifo(desk.root.inbox / "pipe.toml")
    (desk.root.inbox / "lost.toml").symlink_to("nowhere")
    (desk.root.inbox / "notes.odt").write_text("x")
    desk.jobs.scan(desk.now)
    desk.tick(QUIET)
    assert desk.places() == {}
    assert sorted(where for _, where in desk.jobs.problems(desk.now)) == [
        "inbox/lost.toml",
        "inbox/notes.odt",
        "inbox/pipe.toml",
    ]


def test_partial_downloads_and_hidden_files_are_ignored(desk: Desk) -> None:
    for name in (".cat.toml.swp", "cat.toml.part", "cat.toml~", ".hidden.toml"):
        desk.drop(name, JOB)
    desk.tick(10 * QUIET)
    assert desk.places() == {}
    assert not list(desk.jobs.problems(desk.now))


def test_a_job_waits_for_its_download_to_be_completed(desk: Desk) -> None:
    marker = desk.root.inbox / "cat.toml.part"
    marker.touch()
    desk.drop("cat.toml", JOB)
    desk.tick(10 * QUIET)
    assert desk.places() == {}
    marker.unlink()
    desk.tick(60.0)
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_folder_of_jobs_is_taken_apart_and_removed(desk: Desk) -> None:
    desk.drop("set/a.toml", JOB)
    desk.drop("set/b.toml", JOB)
    desk.tick()
    assert desk.places() == {"running": ["set-a.toml", "set-b.toml"]}
    assert not (desk.root.inbox / "set").exists()


def test_a_folder_named_like_a_job_is_a_folder(desk: Desk) -> None:
    desk.drop("set.toml/a.toml", JOB)
    desk.tick()
    assert list(desk.board.jobs) == ["set.toml-a"]


def test_a_prompt_list_becomes_a_job_per_line(desk: Desk) -> None:
    desk.drop("list.txt", "a red cat -W64 -H64 -S7\n\na blue dog -W64 -H64 -n2\n")
    desk.tick()
    assert desk.places() == {"running": ["list-0001.toml", "list-0002.toml"], "done": ["list.txt"]}
    assert desk.board.jobs["list-0001"].plan.images[0].seed == 7


def test_a_list_half_taken_apart_before_a_crash_is_completed_once(desk: Desk) -> None:
    path = desk.root.inbox / "list.txt"
    path.write_text("a cat -W64 -H64\na dog -W64 -H64\n")
    desk.spool.set_aside(path, "list")
    first = desk.spool.add("list-0001", JOB.encode(), 0)
    assert first is not None
    desk.spool.finish(desk.spool.claim(first))
    again = Desk(desk.root)
    again.tick()
    assert again.places() == {"running": ["list-0002.toml"], "done": ["list-0001.toml", "list.txt"]}


def test_two_drops_of_one_name_are_two_jobs(desk: Desk) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    desk.drop("cat.toml", JOB)
    desk.tick()
    assert desk.places() == {"running": ["cat-2.toml", "cat.toml"]}


def test_a_linked_job_leaves_the_file_behind_the_link_alone(desk: Desk, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(JOB)
    (desk.root.inbox / "cat.toml").symlink_to(own)
    desk.jobs.scan(desk.now)
    desk.tick(QUIET)
    assert desk.places() == {"running": ["cat.toml"]}
    assert own.read_text() == JOB


# Prompts


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a cat withLora(ink, 99)", 'line 1: prompt: The LoRA "ink" has a weight that is no number'),
        ("a [cat.swap(dog)]", "negative_prompt: A .swap(…) can"),
    ],
)
def test_a_prompt_that_cannot_be_rendered_fails_the_job_even_before_its_model_is_there(
    desk: Desk, prompt: str, told: str
) -> None:
    desk.drop("cat.toml", f'prompt = "{prompt}"\nmodel = "none"\n')
    desk.tick(QUIET)
    assert desk.places() == {"failed": ["cat.error.txt", "cat.toml"]}
    assert told in desk.error("cat")


def test_the_syntax_of_prompts_can_be_a_default(root: Root) -> None:
    desk = Desk(root, defaults={"prompt_syntax": "plain"})
    desk.register()
    desk.drop("cat.toml", 'prompt = "a cat.swap(dog)"\n')
    desk.tick(QUIET)
    assert desk.places() == {"running": ["cat.toml"]}
    assert 'prompt_syntax = "plain"' in (root.outputs / "cat" / "job.toml").read_text()


# Waiting


def test_a_job_whose_model_is_missing_waits_and_starts_when_it_lands(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + 'model = "pant"\n')
    desk.tick()
    assert desk.places() == {"waiting": ["cat.toml", "cat.why.txt"]}
    assert '"paint"' in desk.why("cat")
    desk.register("pant")
    desk.jobs.queue.recheck_waiting()
    desk.tick()
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_job_whose_model_no_job_can_use_fails_at_once_and_is_told_which_can(desk: Desk) -> None:
    desk.register("flow", base="flux2")
    desk.drop("cat.toml", JOB + 'model = "flow"\n')
    desk.tick()
    assert desk.places() == {"failed": ["cat.error.txt", "cat.toml"]}
    assert "line 4: model: flow is a flux2 model, which cannot be rendered yet" in desk.error("cat")
    assert "Use paint." in desk.error("cat")
    assert desk.error("cat").startswith("inbox/cat.toml was not run: 1 problem.")


def test_a_job_that_waits_for_a_name_fails_when_what_lands_under_it_is_of_no_use(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + 'model = "finer"\n')
    desk.tick()
    assert desk.places() == {"waiting": ["cat.toml", "cat.why.txt"]}
    desk.register("finer", base="sdxl-refiner")
    desk.jobs.queue.recheck_waiting()
    desk.tick()
    assert desk.places() == {"failed": ["cat.error.txt", "cat.toml"]}
    assert "makes none from text" in desk.error("cat")


def test_a_job_without_a_model_waits_for_the_first_one(root: Root) -> None:
    desk = Desk(root)
    desk.drop("cat.toml", JOB)
    desk.tick()
    assert "No model is registered yet" in desk.why("cat")
    desk.register()
    desk.jobs.queue.recheck_waiting()
    desk.tick()
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_job_without_a_model_gets_the_default_one(desk: Desk) -> None:
    desk.register("other", default=True)
    desk.drop("cat.toml", JOB)
    desk.tick()
    assert desk.board.jobs["cat"].plan.model.name == "other"


def test_a_waiting_job_that_is_edited_to_fit_runs(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + 'model = "none"\n')
    desk.tick()
    desk.edit(desk.root.state_folder("waiting") / "cat.toml", JOB + 'model = "paint"\n')
    desk.tick()
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_waiting_job_that_is_deleted_is_gone_with_its_note(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + 'model = "none"\n')
    desk.tick()
    path = desk.root.state_folder("waiting") / "cat.toml"
    path.unlink()
    desk.jobs.look(path, False, desk.now)
    assert desk.places() == {}
    assert desk.jobs.count()["waiting"] == 0


def test_waiting_jobs_are_found_again_after_a_restart(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + 'model = "later"\n')
    desk.tick()
    again = Desk(desk.root)
    again.register("later")
    again.jobs.queue.recheck_waiting()
    again.tick()
    assert again.places() == {"running": ["cat.toml"]}


def test_a_full_disk_makes_the_next_job_wait_until_there_is_room(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.room.free_gb = 1.0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2e9, 2e9, 0.5e9))  # type: ignore[attr-defined]
    desk.drop("a.toml", JOB)
    desk.drop("b.toml", JOB)
    desk.tick(60)
    assert "0.5 GB free" in desk.why("a")
    assert desk.jobs.count() == {"new": 0, "queued": 1, "waiting": 1, "running": 0, "done": 0, "failed": 0}
    monkeypatch.undo()
    desk.tick(60)
    assert list(desk.board.jobs) == ["a", "b"]


def test_results_that_cannot_be_written_make_the_job_wait(desk: Desk) -> None:
    shutil.rmtree(desk.root.outputs)
    desk.root.outputs.write_text("in the way")
    desk.drop("cat.toml", JOB)
    desk.tick()
    assert "cannot be written" in desk.why("cat")
    desk.root.outputs.unlink()
    desk.tick(20.0)
    assert desk.places() == {"running": ["cat.toml"]}


# The queue


def fill(desk: Desk) -> None:
    """A running job that takes the whole window, so that others stay queued."""
    desk.drop("long.toml", JOB + f"iterations = {WINDOW}\npriority = 1000\n")
    desk.tick()
    assert list(desk.board.jobs) == ["long"]
    assert [handout.images for handout in desk.board.handouts(desk.now)] == [tuple(range(1, WINDOW + 1))]


def queued(desk: Desk) -> list[str]:
    return [name[14:-5] for name in desk.places().get("queued", [])]


def test_the_listing_of_the_queue_is_the_order_in_which_jobs_run(desk: Desk) -> None:
    fill(desk)
    for name, priority in [("a", 0), ("b", 7), ("c", -7), ("d", 0)]:
        desk.drop(f"{name}.toml", f"{JOB}priority = {priority}\n")
    desk.tick()
    assert queued(desk) == ["b", "a", "d", "c"]
    desk.render(desk.board.jobs["long"])
    assert list(desk.board.jobs) == ["b", "a", "d", "c"]


def test_an_edited_priority_moves_a_queued_job(desk: Desk) -> None:
    fill(desk)
    desk.drop("a.toml", JOB)
    desk.drop("b.toml", JOB)
    desk.tick()
    ticket = desk.spool.queued("b")
    assert ticket is not None
    desk.edit(ticket.path, JOB + "priority = 5\n")
    desk.tick()
    assert queued(desk) == ["b", "a"]
    desk.render(desk.board.jobs["long"])
    assert list(desk.board.jobs) == ["b", "a"]


def test_an_edit_that_breaks_a_queued_job_fails_it_after_the_quiet_period(desk: Desk) -> None:
    fill(desk)
    desk.drop("a.toml", JOB)
    desk.tick()
    ticket = desk.spool.queued("a")
    assert ticket is not None
    desk.edit(ticket.path, 'prompt = "x"\nstpes = 3')
    desk.tick(QUIET / 2)
    assert queued(desk) == ["a"]
    desk.tick(QUIET)
    assert "steps" in desk.error("a")


def test_a_queued_job_is_claimed_as_it_is_then(desk: Desk) -> None:
    fill(desk)
    desk.drop("a.toml", JOB)
    desk.tick()
    ticket = desk.spool.queued("a")
    assert ticket is not None
    ticket.path.write_text('prompt = "a dog"\nwidth = 64\nheight = 64\n')
    desk.render(desk.board.jobs["long"])
    assert desk.board.jobs["a"].plan.images[0].prompt == "a dog"


def test_a_deleted_queued_job_does_not_run(desk: Desk) -> None:
    fill(desk)
    desk.drop("a.toml", JOB)
    desk.tick()
    ticket = desk.spool.queued("a")
    assert ticket is not None
    ticket.path.unlink()
    desk.jobs.look(ticket.path, False, desk.now)
    assert desk.jobs.count()["queued"] == 0
    assert desk.jobs.images_pending == WINDOW
    desk.render(desk.board.jobs["long"])
    assert not desk.board.jobs


def test_a_deletion_that_no_event_told_does_no_harm(desk: Desk) -> None:
    fill(desk)
    desk.drop("a.toml", JOB)
    desk.tick()
    ticket = desk.spool.queued("a")
    assert ticket is not None
    ticket.path.unlink()
    desk.render(desk.board.jobs["long"])
    assert not desk.board.jobs


def test_a_job_put_straight_into_the_queue_is_taken_in(desk: Desk) -> None:
    fill(desk)
    path = desk.root.state_folder("queued") / "by hand.toml"
    path.write_text(JOB)
    desk.jobs.look(path, True, desk.now)
    desk.tick()
    assert queued(desk) == ["by-hand"]


def test_a_queue_from_an_earlier_run_is_worked_off_in_order(desk: Desk) -> None:
    fill(desk)
    for name in "abc":
        desk.drop(f"{name}.toml", JOB)
    desk.tick()
    again = Desk(desk.root)
    again.tick()
    assert again.jobs.images_pending == WINDOW + 3
    again.render(again.board.jobs["long"])
    assert list(again.board.jobs) == ["a", "b", "c"]


def test_a_pause_starts_nothing_and_takes_in(desk: Desk) -> None:
    desk.spool.pause()
    desk.drop("a.toml", JOB)
    desk.tick()
    assert queued(desk) == ["a"]
    desk.spool.resume()
    desk.tick()
    assert list(desk.board.jobs) == ["a"]


def test_defaults_of_the_settings_give_priority_and_count(root: Root) -> None:
    desk = Desk(root, Settings.model_validate({"limits": {"free_gb": 0.0}}), {"priority": 9, "iterations": 2})
    desk.register()
    desk.drop("a.toml", JOB)
    desk.tick()
    assert desk.board.jobs["a"].plan.priority == 9
    assert desk.jobs.images_pending == 2


# Running, and ends


def test_removing_a_running_job_cancels_it(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + "iterations = 2\n")
    desk.tick()
    active = desk.board.jobs["cat"]
    desk.render(active, only=1)
    active.ticket.path.unlink()
    desk.jobs.look(active.ticket.path, False, desk.now)
    assert desk.jobs.cancelled == ["cat"]
    assert desk.places() == {}
    result = json.loads((desk.root.outputs / "cat" / "result.json").read_text())
    assert [image["state"] for image in result["images"]] == ["done", "cancelled"]


def test_failed_images_fail_the_job_and_the_others_stay(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + "iterations = 3\n")
    desk.tick()
    desk.render(desk.board.jobs["cat"], fail={2: "it looked wrong"})
    assert desk.places() == {"failed": ["cat.error.txt", "cat.toml"]}
    assert "image 2: it looked wrong" in desk.error("cat")
    assert "The other 2 are in outputs/cat/" in desk.error("cat")


def test_a_failed_job_moved_back_goes_on_at_what_is_missing(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + "iterations = 3\n")
    desk.tick()
    seeds = [image.seed for image in desk.board.jobs["cat"].plan.images]
    desk.render(desk.board.jobs["cat"], fail={2: "it looked wrong"})
    (desk.root.state_folder("failed") / "cat.toml").rename(desk.root.inbox / "cat.toml")
    desk.jobs.look(desk.root.inbox / "cat.toml", True, desk.now)
    desk.tick()
    active = desk.board.jobs["cat"]
    assert active.fresh == [2]
    assert [image.seed for image in active.plan.images] == seeds
    assert desk.places() == {"running": ["cat.toml"]}


def test_a_failed_job_that_was_changed_gets_results_of_its_own(desk: Desk) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    desk.render(desk.board.jobs["cat"], fail={1: "it looked wrong"})
    (desk.root.state_folder("failed") / "cat.toml").unlink()
    desk.drop("cat.toml", JOB + "steps = 7\n")
    desk.tick()
    assert list(desk.board.jobs) == ["cat-2"]
    assert "steps = 7" in (desk.root.outputs / "cat-2" / "job.toml").read_text()


def test_a_running_job_is_resumed_with_the_seeds_it_had(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + "iterations = 3\n")
    desk.tick()
    seeds = [image.seed for image in desk.board.jobs["cat"].plan.images]
    desk.render(desk.board.jobs["cat"], only=1)
    active = Desk(desk.root).board.jobs["cat"]
    assert [image.seed for image in active.plan.images] == seeds
    assert active.pending == 2


def test_a_job_claimed_in_the_instant_of_a_crash_is_planned_anew(desk: Desk) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    shutil.rmtree(desk.root.outputs / "cat")
    assert list(Desk(desk.root).board.jobs) == ["cat"]


def test_a_job_finished_in_the_instant_of_a_crash_is_done_without_rendering(desk: Desk) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    active = desk.board.jobs["cat"]
    active.results.publish(active.plan, active.plan.images[0], b"a picture")
    again = Desk(desk.root)
    again.tick()
    assert again.places() == {"done": ["cat.toml"]}


def test_a_running_job_whose_model_is_gone_waits_for_it(desk: Desk) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    shutil.rmtree(desk.root.models / "sd-1")
    again = Desk(desk.root)
    assert "paint" in again.why("cat")
    (desk.root.models / "sd-1" / "main" / "paint").mkdir(parents=True)
    again.jobs.queue.recheck_waiting()
    again.tick()
    assert again.places() == {"running": ["cat.toml"]}


def test_counts_follow_without_reading_the_folders(desk: Desk) -> None:
    desk.drop("a.toml", JOB)
    desk.drop("b.toml", "x = 1")
    desk.tick()
    desk.tick(QUIET)
    desk.render(desk.board.jobs["a"])
    assert desk.jobs.count() == {"new": 0, "queued": 0, "waiting": 0, "running": 0, "done": 1, "failed": 1}
    told = desk.jobs.count()
    desk.jobs.scan(desk.now)
    assert desk.jobs.count() == told


def test_a_folder_that_is_taken_away_while_its_job_runs_holds_nobody_up(desk: Desk) -> None:
    desk.drop("cat.toml", JOB + "iterations = 2\n")
    desk.tick()
    active = desk.board.jobs["cat"]
    desk.render(active, only=1)
    shutil.rmtree(desk.root.outputs / "cat")
    desk.render(active)
    assert desk.places() == {"done": ["cat.toml"]}
    assert (desk.root.outputs / "cat" / "result.json").is_file()
    assert not desk.room.is_low


def test_a_result_that_cannot_be_written_is_written_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.drop("cat.toml", JOB)
    desk.tick()
    in_the_way = desk.root.outputs / "cat" / "result.json"
    in_the_way.mkdir()
    desk.render(desk.board.jobs["cat"])
    assert desk.places() == {"running": ["cat.toml"]}
    assert desk.jobs.count()["running"] == 1
    in_the_way.rmdir()
    desk.tick(60.0)
    assert desk.places() == {"done": ["cat.toml"]}
    assert in_the_way.is_file()
