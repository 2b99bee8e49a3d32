"""When a file that arrives is complete. The clock is a number; nothing here sleeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invokeai_daemon.daemon.settle import (
    LONGEST_PAUSE,
    PATIENCE,
    Proof,
    Settler,
    Signature,
    is_being_written,
    is_ignored,
    is_regular,
    unfinished_sibling,
)

QUIET = 10.0


class Proofs:
    """What the format says of every drop."""

    def __init__(self, proof: Proof) -> None:
        self.proof: Proof = proof

    def __call__(self, path: Path) -> Proof:
        return self.proof


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"1234")
    return path


def settler(proof: Proof = "unknown") -> Settler:
    return Settler(QUIET, Proofs(proof))


def test_a_sealed_and_proven_drop_is_ready_at_once(drop: Path) -> None:
    settling = settler("complete")
    settling.see(drop, 0.0, sealed=True)
    assert settling.ready(0.0) == [drop]
    assert len(settling) == 0


def test_a_proof_without_an_event_waits_for_the_quiet_period(drop: Path) -> None:
    settling = settler("complete")
    settling.see(drop, 0.0)
    assert settling.ready(QUIET - 1) == []
    assert settling.ready(QUIET) == [drop]


def test_an_event_without_a_proof_waits_for_the_quiet_period(drop: Path) -> None:
    settling = settler("unknown")
    settling.see(drop, 0.0, sealed=True)
    assert settling.ready(0.0) == []
    assert settling.next_time() == QUIET
    assert settling.ready(QUIET) == [drop]


def test_a_drop_proven_incomplete_waits_longer_and_is_handed_over_then(drop: Path) -> None:
    settling = settler("incomplete")
    settling.see(drop, 0.0, sealed=True)
    assert settling.ready(QUIET) == []
    assert settling.ready(PATIENCE * QUIET) == [drop]


def test_a_file_still_growing_is_left_alone(drop: Path) -> None:
    settling = settler("complete")
    for second in range(30):
        with drop.open("ab") as file:
            file.write(b"more")
        settling.see(drop, float(second))
        assert settling.ready(float(second)) == []
    assert settling.ready(29 + QUIET) == [drop]


def test_a_change_that_nobody_announced_starts_the_wait_again(drop: Path) -> None:
    settling = settler()
    settling.see(drop, 0.0)
    drop.write_bytes(b"12345")
    assert settling.ready(QUIET) == []
    assert settling.ready(2 * QUIET - 1) == []
    assert settling.ready(2 * QUIET) == [drop]


def test_a_replaced_file_of_equal_size_and_time_is_another_file(drop: Path) -> None:
    settling = settler()
    settling.see(drop, 0.0)
    before = drop.stat()
    other = drop.with_name("other")
    other.write_bytes(b"4321")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(drop)
    assert settling.ready(QUIET) == []


@pytest.mark.parametrize("ending", [".part", ".crdownload", ".aria2"])
def test_a_drop_is_incomplete_while_its_download_is_marked_so(drop: Path, ending: str) -> None:
    sibling = drop.with_name(drop.name + ending)
    sibling.touch()
    assert unfinished_sibling(drop) == sibling
    settling = settler("complete")
    settling.see(drop, 0.0, sealed=True)
    assert settling.ready(1000.0) == []
    assert settling.pending(1000.0, longer_than=60.0) == [(drop, f"is not complete while {sibling.name} exists")]
    sibling.unlink()
    assert settling.ready(1000.0 + LONGEST_PAUSE) == [drop]


def test_a_file_that_somebody_holds_open_for_writing_is_left_alone(drop: Path) -> None:
    settling = settler("complete")
    with drop.open("ab"):
        assert is_being_written(drop)
        settling.see(drop, 0.0, sealed=True)
        assert settling.ready(0.0) == []
        assert settling.ready(100.0) == []
    assert not is_being_written(drop)
    assert settling.ready(100.0 + LONGEST_PAUSE) == [drop]


def test_readers_do_not_count_as_writers(drop: Path) -> None:
    with drop.open("rb"):
        assert not is_being_written(drop)


def test_looks_at_a_stuck_drop_become_rare_but_never_end(drop: Path) -> None:
    drop.with_name(drop.name + ".part").touch()
    settling = settler("complete")
    settling.see(drop, 0.0, sealed=True)
    times = []
    now = 0.0
    for _ in range(50):
        settling.ready(now)
        times.append(settling.next_time() - now)
        now = settling.next_time()
    assert times == sorted(times)
    assert times[-1] == LONGEST_PAUSE


def test_a_drop_that_vanishes_is_forgotten(drop: Path) -> None:
    settling = settler()
    settling.see(drop, 0.0)
    drop.unlink()
    assert settling.ready(QUIET) == []
    assert len(settling) == 0
    assert settling.next_time() == float("inf")


def test_a_scan_that_does_not_find_a_drop_forgets_it(drop: Path) -> None:
    settling = settler()
    settling.see(drop, 0.0)
    settling.keep_only([])
    assert drop not in settling


def test_a_flood_is_taken_in_bounded_batches_in_order_of_arrival(tmp_path: Path) -> None:
    settling = settler("complete")
    paths = [tmp_path / f"{number}.toml" for number in (3, 1, 2)]
    for path in paths:
        path.touch()
        settling.see(path, 0.0, sealed=True)
    assert settling.ready(0.0, limit=2) == paths[:2]
    assert settling.next_time() <= 0.0
    assert settling.ready(0.0, limit=2) == paths[2:]


def test_the_signature_of_a_folder_changes_with_what_is_below_it(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    before = Signature.of_folder(tmp_path)
    (tmp_path / "unet" / "weights").write_bytes(b"12")
    assert Signature.of_folder(tmp_path) != before


@pytest.mark.parametrize(
    "name",
    [
        ".x.toml.AbC123",
        ".cat.toml.swp",
        "cat.toml.part",
        "CAT.TOML.PART",
        "cat.toml~",
        "4913",
        "#cat.toml#",
        "model.safetensors.crdownload",
        "model.safetensors.aria2",
        "model.ckpt.!qB",
        "a.sync-conflict-20260504-121212-ABCDEFG.toml",
        "~syncthing~cat.toml.tmp",
        "._cat.toml",
        "Thumbs.db",
        ".gitkeep",
    ],
)
def test_names_of_unfinished_and_foreign_files_are_ignored(name: str) -> None:
    assert is_ignored(name)


@pytest.mark.parametrize("name", ["cat.toml", "part.toml", "my.party.toml", "tmp.png", "model.v2.safetensors", "4914"])
def test_ordinary_names_are_not_ignored(name: str) -> None:
    assert not is_ignored(name)


def test_pipes_and_folders_are_no_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "lost.toml").symlink_to("nowhere")
    assert not any(is_regular(path) for path in tmp_path.iterdir())
