"""Test pictures of new models, when there is nothing else to do. The daemon is real, the painter paints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as Picture

from invokeai_daemon.models.registry import Entry, Registry
from invokeai_daemon.root import Root
from tests.daemon.conftest import Served, wait_until


@pytest.fixture
def tested(served: Served) -> Served:
    """A root whose models are tested."""
    served.settings["import"]["thumbnails"] = True
    return served


def add(served: Served, name: str, more: str = "") -> None:
    """A model that came through autoimport/."""
    served.register(
        name, f"  source: autoimport/main/{name}.safetensors\n  hash: blake3:{name.encode().hex():0<64}\n{more}"
    )


def entry(root: Root, name: str) -> Entry:
    found = Registry(root).get(name)
    assert found is not None
    return found


def test_a_new_model_gets_a_picture_that_its_entry_shows(tested: Served) -> None:
    add(tested, "fresh", "  default_settings: {width: 200, height: 512}\n")
    tested.start()
    wait_until(lambda: entry(tested.root, "fresh").cover_image)
    cover = Path(entry(tested.root, "fresh").cover_image)
    assert cover.is_relative_to(tested.root.state / "thumbnails")
    with Picture.open(cover) as picture:
        assert picture.size == (64, 256)
    assert entry(tested.root, "paint").cover_image == "", "models that users wrote down themselves are not tested"
    assert not list(tested.root.outputs.iterdir())
    assert tested.status()["images"]["done"] == 0


@pytest.mark.parametrize(
    ("name", "why"),
    [("fail", "it looked wrong"), ("flat", "one flat colour"), ("die", "the renderer died over it: killed by SIGSEGV")],
)
def test_a_model_that_paints_nothing_is_warned_about_and_not_tried_again(tested: Served, name: str, why: str) -> None:
    add(tested, name)
    tested.start()
    wait_until(lambda: entry(tested.root, name).reason)
    found = entry(tested.root, name)
    assert found.reason.startswith("the test picture failed: ")
    assert why in found.reason
    assert (found.status, found.cover_image) == ("ok", "")
    tested.stop()
    tested.start()
    add(tested, "fresh")
    wait_until(lambda: entry(tested.root, "fresh").cover_image)
    assert len(tested.events("worker.died")) == (name == "die")
    assert len(tested.events("model.test_failed")) == 1


def test_a_job_goes_first_and_the_test_is_made_afterwards(tested: Served) -> None:
    add(tested, "slow-1.5")
    tested.start()
    wait_until((tested.root.state / "thumbnails/tried.json").exists)
    tested.drop("cat.toml", 'prompt = "a cat"\nmodel = "paint"\nwidth = 64\nheight = 64\nsteps = 2\n')
    wait_until(lambda: tested.is_in("done", "cat.toml"))
    wait_until(lambda: entry(tested.root, "slow-1.5").cover_image)


def test_what_was_cut_off_by_a_crash_of_the_daemon_is_not_tried_again(tested: Served) -> None:
    add(tested, "hang")
    tested.start()
    wait_until((tested.root.state / "thumbnails/tried.json").exists)
    tested.stop(9)
    add(tested, "fresh")
    tested.start()
    wait_until(lambda: entry(tested.root, "fresh").cover_image)
    assert list(json.loads((tested.root.state / "thumbnails/tried.json").read_bytes()).values()) == ["begun", ""]


def test_a_run_that_only_drains_tests_nothing(tested: Served) -> None:
    add(tested, "fresh")
    assert tested.start(once=True).wait() == 0
    assert not tested.events("worker.started")


def test_a_picture_of_the_users_own_stays(tested: Served) -> None:
    own = tested.root.autoimport / "main/fresh.png"
    own.write_bytes(b"own")
    add(tested, "fresh", "  cover_image: autoimport/main/fresh.png\n")
    tested.start()
    wait_until(lambda: tested.events("model.tested"))
    assert entry(tested.root, "fresh").cover_image == str(own)
