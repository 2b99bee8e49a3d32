"""Choose: which files of a repository are the model that is asked for. Pure: a list of names in, a choice out.

- A diffusers pipeline (model_index.json): its folders with one set of weights each.
- One component (config.json and weights), as of a VAE or a ControlNet: the same for one folder.
- A LoRA or an embedding under the name that trainers give them: that file, called after the repository.
- A single model file; of several, the user says which: there is no guess.

fp16 weights go before full ones, safetensors before pickles; weights for other programs (Flax, ONNX, …) are left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from invokeai_daemon.errors import InstallError
from invokeai_daemon.models.install.names import MODEL_SUFFIXES, split_ending
from invokeai_daemon.models.install.sources import VARIANTS

INDEX = "model_index.json"
#: Weights of a component: name, variant before or after the number of a part, part, ending.
_WEIGHTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[A-Za-z0-9_]+))?"
    r"(?P<part>-\d{5}-of-\d{5})?(?:\.(?P<late>[A-Za-z0-9_]+))?\.(?P<suffix>safetensors|bin)"
)
#: Lists of the parts of weights.
_PARTS = re.compile(
    r"(?P<stem>diffusion_pytorch_model|pytorch_model|model)\.(?P<suffix>safetensors|bin)"
    r"\.index(?:\.(?P<variant>\w+))?\.json"
)
#: What stands beside weights: configs, vocabularies, licences.
_BESIDE = re.compile(r".*\.(?:json|txt|model|jinja)|LICENSE.*|tokenizer\..*", re.IGNORECASE)
_IN_ROOT = re.compile(r"LICENSE(?:\..+)?|.*license.*\.(?:md|txt)", re.IGNORECASE)
#: Stems that say what a file is and not whose; with the folder of autoimport/ that they go to.
_NAMELESS = {
    "pytorch_lora_weights": "lora",
    "adapter_model": "lora",
    "learned_embeds": "embedding",
    "learned_embed": "embedding",
}
_PREFERRED = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
MOST_LISTED = 20


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository."""

    path: str
    #: Bytes; None when the hub does not say.
    size: int | None = None
    #: What its content must be, "sha256:…" or "git-sha1:…"; empty when the hub does not say.
    checksum: str = ""


@dataclass(frozen=True)
class Choice:
    """What to fetch and what to call it."""

    files: tuple[RepoFile, ...]
    #: The name of the file or folder that they become.
    name: str
    #: The folder in the repository that becomes the folder here; None for a single file.
    top: str | None
    #: The folder of autoimport/ that fits; None when the names do not tell.
    kind: str | None = None

    def place(self, file: RepoFile, target: Path) -> Path:
        """Where a file of it goes, when all of it becomes `target`."""
        return target if self.top is None else target / _relative(file.path, self.top)


def choose(
    repo: str,
    files: Sequence[RepoFile],
    path: str = "",
    variant: str | None = None,
    components: Collection[str] | None = None,
) -> Choice:
    """The files of a model. `components`: the folders that the pipeline's index names, when it was read.

    Raises InstallError when there is no model, or several.
    """
    exact = [file for file in files if file.path == path]
    if exact:
        return _single(repo, exact[0])
    if path in VARIANTS and variant is None and not any(file.path.startswith(f"{path}/") for file in files):
        path, variant = "", path
    below = [file for file in files if not path or file.path.startswith(f"{path}/")]
    if not below:
        raise InstallError(f"{repo} has no folder or file {path}. It has {_listed(_tops(files))}.")
    names = {_relative(file.path, path) for file in below}
    if INDEX in names:
        return Choice(tuple(_pipeline(below, path, variant, components)), _folder_name(repo, path), path, "main")
    if "config.json" in names and any(_WEIGHTS.fullmatch(name) for name in names):
        chosen = tuple(_component(_direct(below, path), variant))
        return Choice(chosen, _folder_name(repo, path), path, None)
    return _single_of(repo, below, path, variant)


def index_of(files: Iterable[RepoFile], path: str) -> RepoFile | None:
    """The index of the pipeline that a path names, to be read before the choice; None when there is none."""
    wanted = f"{path}/{INDEX}" if path and path not in VARIANTS else INDEX
    return next((file for file in files if file.path == wanted), None)


def components_of(index: object) -> frozenset[str]:
    """The folders that a pipeline's index names."""
    found = index.items() if isinstance(index, dict) else ()
    return frozenset(
        key
        for key, value in found
        if not key.startswith("_") and isinstance(value, list) and len(value) == 2 and all(value)
    )


# -- folders -----------------------------------------------------------------------------------------------------------


def _pipeline(
    files: Sequence[RepoFile], top: str, variant: str | None, components: Collection[str] | None
) -> Iterator[RepoFile]:
    folders: dict[str, list[RepoFile]] = {}
    for file in files:
        folder, _, name = _relative(file.path, top).partition("/")
        if not name:
            if folder == INDEX or _IN_ROOT.fullmatch(folder):
                yield file
        elif "/" not in name and (components is None or folder in components):
            folders.setdefault(folder, []).append(file)
    for folder in sorted(folders):
        yield from _component(folders[folder], variant)


def _component(files: Sequence[RepoFile], variant: str | None) -> Iterator[RepoFile]:
    """One set of weights, and all that is no weights."""
    sets: dict[tuple[str, str, str], list[RepoFile]] = {}
    for file in files:
        name = PurePosixPath(file.path).name
        matched = _WEIGHTS.fullmatch(name) or _PARTS.fullmatch(name)
        if matched:
            found = matched.groupdict()
            key = (matched["stem"], found.get("variant") or found.get("late") or "", matched["suffix"])
            sets.setdefault(key, []).append(file)
        elif _BESIDE.fullmatch(name) and not name.startswith((".", "flax_", "tf_")):
            yield file
    if sets:
        yield from sets[min(sets, key=lambda key: _rank(key, variant))]


def _rank(weights: tuple[str, str, str], wanted: str | None) -> tuple[bool, int, tuple[str, str, str]]:
    """Order of preference: no pickle; then the variant that was asked for, else fp16, full weights, any other."""
    _, variant, suffix = weights
    order = [wanted or "fp16", "", "fp16", "bf16"]
    # "fp32" is how full weights are asked for.
    order = ["", *order] if wanted == "fp32" else order
    return suffix != "safetensors", order.index(variant) if variant in order else len(order), weights


# -- single files ------------------------------------------------------------------------------------------------------


def _single_of(repo: str, files: Sequence[RepoFile], path: str, variant: str | None) -> Choice:
    direct = _best_twins(_direct(files, path))
    candidates = direct or _best_twins(file for file in files if _may_be_model(file.path))
    folders = sorted({_above(file.path) for file in files if PurePosixPath(file.path).name == INDEX})
    if not direct and len(folders) == 1:
        return choose(repo, files, folders[0], variant)
    if not direct and folders:
        candidates = [RepoFile(folder) for folder in folders]
    named = [file for file in direct if split_ending(PurePosixPath(file.path).name)[0] in _NAMELESS]
    if len(candidates) == 1 or len(named) == 1:
        return _single(repo, (named or candidates)[0])
    if not candidates:
        raise InstallError(f"{repo}{f':{path}' if path else ''} holds no model that is known here. {_what_else(files)}")
    raise InstallError(
        f"{repo} holds several models. Say which:\n"
        + "\n".join(f"  {repo}:{file.path}{_size(file)}" for file in candidates[:MOST_LISTED])
        + (f"\n  and {len(candidates) - MOST_LISTED} more" if len(candidates) > MOST_LISTED else "")
    )


def _single(repo: str, file: RepoFile) -> Choice:
    stem, suffix = split_ending(PurePosixPath(file.path).name)
    kind = _NAMELESS.get(stem.partition(".")[0])
    is_nameless = kind is not None or stem.partition(".")[0] in ("model", "diffusion_pytorch_model", "pytorch_model")
    name = f"{_last(repo)}{suffix}" if is_nameless else PurePosixPath(file.path).name
    return Choice((file,), name, None, kind)


def _best_twins(files: Iterable[RepoFile]) -> list[RepoFile]:
    """Models, each in the best of the formats that it is there in."""
    best: dict[str, RepoFile] = {}
    for file in files:
        if not _may_be_model(file.path):
            continue
        stem = split_ending(file.path)[0]
        if stem not in best or _format(file) < _format(best[stem]):
            best[stem] = file
    return [best[stem] for stem in sorted(best)]


def _may_be_model(path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return name.endswith(MODEL_SUFFIXES) and not name.startswith(("optimizer", "training_args", "scheduler", "rng_"))


def _format(file: RepoFile) -> int:
    return next(number for number, suffix in enumerate(_PREFERRED) if file.path.lower().endswith(suffix))


# -- words -------------------------------------------------------------------------------------------------------------


def _direct(files: Iterable[RepoFile], top: str) -> list[RepoFile]:
    return [file for file in files if "/" not in _relative(file.path, top)]


def _relative(path: str, top: str) -> str:
    return path[len(top) + 1 :] if top else path


def _above(path: str) -> str:
    return path.rpartition("/")[0]


def _last(repo: str) -> str:
    return repo.rpartition("/")[2]


def _folder_name(repo: str, path: str) -> str:
    return f"{_last(repo)}-{path.replace('/', '-')}" if path else _last(repo)


def _tops(files: Iterable[RepoFile]) -> list[str]:
    return sorted({file.path.partition("/")[0] for file in files})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_LISTED]) + (", …" if len(names) > MOST_LISTED else "")


def _what_else(files: Sequence[RepoFile]) -> str:
    endings = sorted({split_ending(file.path)[1] for file in files if split_ending(file.path)[1]})
    return f"Its files end in {_listed(endings)}." if endings else "It is empty."


def _size(file: RepoFile) -> str:
    return f"   ({file.size / 1e9:.2f} GB)" if file.size else ""
