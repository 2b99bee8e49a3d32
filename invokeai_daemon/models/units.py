"""Units: which files and folders are one model each. Names and listings decide.

Nothing is opened but a hub's note of its current snapshot.

Called by the intake for what lies in autoimport/, and by the commands for folders that users name. InvokeAI's rule for
folders, with one care more: a folder that holds other weights beside the parts of a model is a collection.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.companions import ENDS
from invokeai_daemon.models.formats.opening import opened

#: Ends of files that may be weights.
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
#: Ends of files that may lie beside models and are none.
NO_WEIGHTS = (
    *(".toml", ".yaml", ".yml", ".json", ".jsonl", ".txt", ".md", ".rst", ".html", ".pdf", ".csv", ".log", ".xml"),
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif", ".svg", ".mp4", ".webm", ".py", ".sh", ".ipynb", ".torrent"),
    *(".info", ".sha256", ".md5", ".url", ".webloc", ".model", ".onnx_data"),
)
#: Files without an extension that come with repositories.
_DOCUMENTS = {"license", "licence", "notice", "readme", "copying", "changelog", "authors", "makefile"}

#: What marks a folder as one model, whatever else is in it.
PIPELINE = "model_index.json"
#: What marks a folder as one model when its weights are the parts of one.
MARKS = (
    "config.json",
    "adapter_config.json",
    "image_encoder.txt",
    "learned_embeds.bin",
    "learned_embeds.safetensors",
    "pytorch_lora_weights.bin",
    "pytorch_lora_weights.safetensors",
)
#: Stems that libraries give the weights inside a folder: alone they say nothing.
_PART = re.compile(
    r"(diffusion_pytorch_model|diffusion_flax_model|pytorch_model|flax_model|tf_model|rust_model|model|adapter_model"
    r"|openvino_model|pytorch_lora_weights|learned_embeds|ip_adapter)([.-].*)?"
)

#: The folders of a hub's cache: `models--owner--name/snapshots/<revision>/`, links into `blobs/`.
_HUB = "models--"
_HUB_OTHERS = ("datasets--", "spaces--")


def may_be_weights(name: str) -> bool:
    """Whether a file of this name may be a model: not a document, a picture, or a note about one."""
    lower = name.lower()
    return not lower.endswith(NO_WEIGHTS) and lower not in _DOCUMENTS


def is_part(name: str) -> bool:
    """Whether this is the name of a weight file inside a model's folder."""
    return _PART.fullmatch(Path(name).stem.lower()) is not None


def is_companion(name: str, is_there: Callable[[str], bool]) -> bool:
    """Whether a file is a VAE that belongs to the model of the same stem beside it."""
    lower = name.lower()
    for end in ENDS["vae"]:
        if lower.endswith(end):
            stem = name[: -len(end)]
            return any(is_there(stem + suffix) for suffix in WEIGHTS)
    return False


def is_model_folder(folder: Path) -> bool:
    """Whether all that is below a folder is one model."""
    # Asked of every folder above each touched file: texts cost a fraction of paths.
    beginning = f"{folder}{os.sep}"
    if os.path.lexists(beginning + PIPELINE):
        return True
    if not any(os.path.exists(beginning + mark) for mark in MARKS):  # noqa: PTH110
        return False
    has_weights = False
    for name in _names(folder):
        if name.lower().endswith(WEIGHTS):
            if not is_part(name):
                return False
            has_weights = True
    return has_weights


def hub_name(path: Path) -> str | None:
    """The name of a model in a hub's cache, for its folder there: "name" of `models--owner--name/snapshots/<rev>`."""
    repository = path.parent.parent.name
    if path.parent.name != "snapshots" or not repository.startswith(_HUB):
        return None
    return repository.split("--")[-1] or None


def entered(folder: Path, names: Collection[str]) -> Collection[str]:
    """Which of the folders in a folder may hold models: of a hub's cache only the current snapshot of each."""
    if folder.name.startswith(_HUB):
        return [name for name in names if name == "snapshots"]
    if folder.name == "snapshots" and folder.parent.name.startswith(_HUB):
        return _current_snapshot(folder, names)
    return [name for name in names if not name.startswith(_HUB_OTHERS)]


def _current_snapshot(folder: Path, names: Collection[str]) -> list[str]:
    """The snapshot that the hub's client takes, `main`; else the one that came last."""
    try:
        # Called by the daemon's loop: a pipe of this name must not hold it.
        with opened(folder.parent / "refs" / "main") as (descriptor, _):
            main = os.pread(descriptor, 100, 0).decode("ascii", "replace").strip()
    except UnreadableModel:
        main = ""
    if main in names:
        return [main]
    return sorted(names, key=lambda name: (_modified(folder / name), name))[-1:]


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _names(folder: Path) -> Iterator[str]:
    """Name after name: a collection of thousands is told by its first."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)
