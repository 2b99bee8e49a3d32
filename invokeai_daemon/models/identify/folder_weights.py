"""The weights of one folder: which of the files are the model, whether all shards are there, and their common header.

Used by `folders`. A repository may hold the same weights several times: whole and in shards, as safetensors and as
pickles, plain and as a variant (fp16). One set is chosen: complete before incomplete, safetensors before pickles, plain
before a variant.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from invokeai_daemon.errors import UnreadableModel
from invokeai_daemon.models.header import Header, TensorInfo, read_header

_WEIGHTS = re.compile(
    r"(?P<stem>[^.]+?)(?:\.(?P<variant>[a-z0-9_]+))?(?:-(?P<number>\d{5})-of-(?P<of>\d{5}))?"
    r"(?:\.(?P<late>[a-z0-9_]+))?\.(?P<kind>safetensors|bin|msgpack|onnx|pt|pth|ckpt)"
)
#: Kinds of files by what can be done with them.
_KINDS = {"safetensors": "safetensors", "bin": "pickle", "pt": "pickle", "pth": "pickle", "ckpt": "pickle"}
_NOT_WEIGHTS = re.compile(r"(optimizer|scheduler|random_states|training_args|scaler).*")
_LONGEST = 2000


@dataclass(frozen=True)
class Stock:
    """The weights that were chosen in a folder."""

    files: tuple[Path, ...] = ()
    #: Names of shards that are not there.
    missing: tuple[str, ...] = ()
    #: safetensors, pickle, other; empty where there are no weights.
    kind: str = ""
    #: fp16, …; empty for plain ones.
    variant: str = ""

    def lacks(self) -> str:
        """What is in the way of using them, as a clause; empty when nothing is."""
        if not self.files and not self.missing:
            return "it has no weights"
        if self.missing:
            more = f" and {len(self.missing) - 1} more" if len(self.missing) > 1 else ""
            return f"{self.missing[0]}{more} is missing"
        if self.kind == "pickle":
            return "its weights are pickles"
        return "its weights are for another program" if self.kind == "other" else ""


def stock_of(folder: Path) -> Stock:
    """The weights in a folder, not below it."""
    sets: dict[tuple[str, str, str], list[tuple[Path, int, int]]] = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _WEIGHTS.fullmatch(path.name)
        if match is None or _NOT_WEIGHTS.fullmatch(path.name) or not path.is_file():
            continue
        kind = _KINDS.get(match["kind"], "other")
        variant = match["variant"] or match["late"] or ""
        sets[(kind, variant, match["stem"])].append((path, int(match["number"] or 1), int(match["of"] or 1)))
    stocks = [_stock(kind, variant, files) for (kind, variant, _), files in sorted(sets.items())]
    return min(stocks, key=_worth, default=Stock())


def _worth(stock: Stock) -> tuple[bool, int, bool, str, str]:
    kind = ("safetensors", "pickle", "other").index(stock.kind)
    name = stock.files[0].name if stock.files else ""
    return (bool(stock.missing), kind, bool(stock.variant), stock.variant, name)


def _stock(kind: str, variant: str, files: Sequence[tuple[Path, int, int]]) -> Stock:
    """One set of files; those of a whole file beside its shards are the whole file."""
    whole = [path for path, _, of in files if of == 1]
    if whole:
        return Stock((whole[0],), (), kind, variant)
    of = min(max(of for _, _, of in files), _LONGEST)
    here = {number: path for path, number, its in files if its == of}
    some = next(iter(here.values()), files[0][0])
    lost = [re.sub(r"-\d{5}-of-", f"-{number:05}-of-", some.name) for number in range(1, of + 1) if number not in here]
    return Stock(tuple(here[number] for number in sorted(here)), tuple(lost), kind, variant)


def merged_header(folder: Path, files: Sequence[Path]) -> Header:
    """One header of all shards, with the folder as its path. Raises like `read_header`."""
    headers = [read_header(path) for path in files]
    if not headers:
        raise UnreadableModel(f"{folder}: it has no weights.")
    tensors: dict[str, TensorInfo] = {}
    for header in headers:
        tensors |= header.tensors
    first = headers[0]
    size = sum(header.size for header in headers)
    return Header(folder, first.format, size, tensors, first.metadata, first.scalars, first.globals, first.leftovers)
