"""Models of this machine are copied beside what is there; a folder gives every model in it, and no part of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from invokeai_daemon.errors import InstallError
from invokeai_daemon.models.install.local import install_local, models_below
from invokeai_daemon.root import Root
from tests.models.build import sd_1, write_safetensors
from tests.models.install.servers import weights


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder as people have them."""
    folder = tmp_path / "shelf"
    for name in (
        "a/cat.safetensors",
        "a/cat.vae.safetensors",
        "b/dog.ckpt",
        "b/.hidden.ckpt",
        "pipe/unet/model.safetensors",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(weights(10))
    (folder / "pipe" / "model_index.json").write_text("{}")
    for name in ("README.md", "a/cat.toml", "a/cat.png", "b/notes.txt"):
        (folder / name).write_text("")
    (folder / "a" / "loop").symlink_to(folder)
    return folder


def test_a_folder_gives_every_model_below_it(shelf: Path) -> None:
    found = sorted(str(path.relative_to(shelf)) for path in models_below(shelf))
    assert found == ["a/cat.safetensors", "b/dog.ckpt", "pipe"]


def test_a_file_and_a_model_folder_give_themselves(shelf: Path) -> None:
    assert list(models_below(shelf / "pipe")) == [shelf / "pipe"]
    assert list(models_below(shelf / "b" / "dog.ckpt")) == [shelf / "b" / "dog.ckpt"]


def test_a_model_comes_with_its_companions_and_stays_where_it_is(root: Root, tmp_path: Path) -> None:
    cat = write_safetensors(tmp_path / "cat.safetensors", sd_1())
    (tmp_path / "cat.toml").write_text('name = "Cat"\n')
    (tmp_path / "cat.png").write_bytes(b"picture")
    assert install_local(root, cat, None) == (root.autoimport / "main" / "cat.safetensors", False)
    names = sorted(path.name for path in (root.autoimport / "main").iterdir())
    assert names == ["cat.png", "cat.safetensors", "cat.toml"]
    assert cat.exists()
    assert install_local(root, cat, None) == (root.autoimport / "main" / "cat.safetensors", True)


def test_another_model_of_the_name_gets_a_number_with_its_companions(root: Root, tmp_path: Path) -> None:
    folder = root.autoimport / "main"
    (folder / "cat.safetensors").write_bytes(b"mine")
    (folder / "cat-2.toml").write_text('name = "mine"\n')
    cat = write_safetensors(tmp_path / "cat.safetensors", sd_1())
    (tmp_path / "cat.toml").write_text('name = "Cat"\n')
    assert install_local(root, cat, folder) == (folder / "cat-3.safetensors", False)
    assert (folder / "cat-3.toml").read_text() == 'name = "Cat"\n'
    assert (folder / "cat-2.toml").read_text() == 'name = "mine"\n'


def test_a_link_leads_to_the_file(root: Root, tmp_path: Path) -> None:
    cat = write_safetensors(tmp_path / "cat.safetensors", sd_1())
    target, _ = install_local(root, cat, None, link=True)
    assert target.is_symlink() and target.resolve() == cat
    assert install_local(root, cat, None, link=True) == (target, True)


def test_a_folder_is_copied_whole(root: Root, shelf: Path) -> None:
    target, was_there = install_local(root, shelf / "pipe", root.autoimport / "main")
    assert (target / "unet" / "model.safetensors").read_bytes() == weights(10) and not was_there
    assert install_local(root, shelf / "pipe", root.autoimport / "main") == (target, True)


def test_what_is_broken_is_not_brought(root: Root, tmp_path: Path) -> None:
    (tmp_path / "cat.safetensors").write_bytes(weights(100)[:-1])
    with pytest.raises(InstallError, match="cat"):
        install_local(root, tmp_path / "cat.safetensors", None)
    assert not list(root.autoimport.rglob("cat*"))


def test_what_lies_there_already_is_left(root: Root) -> None:
    path = root.autoimport / "main" / "cat.safetensors"
    path.write_bytes(weights(10))
    assert install_local(root, path, None) == (path, True)
