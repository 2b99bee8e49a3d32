"""Local: model files and folders of this machine, on their way into autoimport/. They stay where they are.

Called by `models install PATH` and `models install FOLDER`. What is below a folder is found as the watcher finds it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from invokeai_daemon import files
from invokeai_daemon.errors import InstallError
from invokeai_daemon.models.companions import companions_of
from invokeai_daemon.models.install.staging import publish, staged
from invokeai_daemon.models.units import entered, is_companion, is_model_folder, may_be_weights
from invokeai_daemon.root import Root

#: Folders of autoimport/ that are not called like the type.
_FOLDERS = {"spandrel_image_to_image": "upscaler", "unknown": "installed"}


def models_below(path: Path) -> Iterator[Path]:
    """A model file or model folder itself; of another folder every model in it, at any depth, by name."""
    if not path.is_dir() or is_model_folder(path):
        yield path
        return
    visited: set[tuple[int, int]] = set()
    to_do = [path]
    while to_do:
        folder = to_do.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        names = sorted(entry.name for entry in files.entries(folder) if not entry.name.startswith("."))
        folders = [name for name in names if (folder / name).is_dir()]
        yield from (folder / name for name in folders if is_model_folder(folder / name))
        there = set(names)
        for name in names:
            file = folder / name
            if may_be_weights(name) and file.is_file() and not is_companion(name, there.__contains__):
                yield file
        wanted = set(entered(folder, folders))
        to_do += [folder / name for name in reversed(folders) if name in wanted and not is_model_folder(folder / name)]


def install_local(root: Root, path: Path, folder: Path | None, *, link: bool = False) -> tuple[Path, bool]:
    """Copy (or link) one model and its companions into autoimport/: where it is then, and whether it was there before.

    Raises InstallError for what is broken or unsafe.
    """
    path = path.absolute()
    if path.is_relative_to(root.autoimport):
        return path, True
    folder = folder or root.autoimport / _folder_of(path)
    folder.mkdir(parents=True, exist_ok=True)
    with staged(folder, str(path)) as place:
        content = place / path.name
        _bring(path, content, link)
        target, was_there = publish(content, folder, path.name, None, lambda name: _companions(path, folder, name))
    return target, was_there


def _folder_of(path: Path) -> str:
    """The folder of autoimport/ for a model, by what it is. Raises InstallError for what is broken or unsafe."""
    from invokeai_daemon.models.identify import judge
    from invokeai_daemon.models.sidecar import read_sidecar

    verdict = judge(path, read_sidecar(path))
    if verdict.state == "rejected":
        raise InstallError(verdict.reason)
    return _FOLDERS.get(verdict.identity.type, verdict.identity.type)


def _companions(path: Path, folder: Path, name: str) -> bool:
    """Copy what belongs to a model to where the model will be; False when something is there under one of the names."""
    stem = path.name if path.is_dir() else path.stem
    new = name if path.is_dir() else Path(name).stem
    beside = [(found, folder / (new + found.name[len(stem) :])) for found in companions_of(path)]
    if any(os.path.lexists(target) for _, target in beside):
        return False
    for found, target in beside:
        shutil.copy2(found, target)
    return True


def _bring(source: Path, target: Path, link: bool) -> None:
    if link:
        target.symlink_to(source)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
