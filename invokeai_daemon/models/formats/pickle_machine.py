"""The stack machine of the pickle format, over plain values: its memory, and what names, calls and references mean.

Called by `pickles` with the table of `pickle_opcodes`. What a global is taken for, `globals` says; nothing is imported,
nothing is called. Work is counted, also that of copying.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.formats.base import MAX_NAME, shown
from invokeai_daemon.models.formats.globals import (
    DICTIONARIES,
    DTYPES,
    REBUILDERS,
    STORAGES,
    is_code_when_called,
    kind_of,
)
from invokeai_daemon.models.formats.pickle_values import CutOffPickle, Global, Opaque, Storage, Tensor

#: More opcodes than this in one pickle is an attack: 20,000 tensors need about 800,000. Values that one opcode copies
#: count as well.
MAX_OPCODES = 2_000_000
#: torch records storages at most this long in bytes; a larger number is nonsense (and would not fit a file offset).
MAX_NUMBER = 2**62


class _Mark:
    """Where the arguments of a later opcode begin on the stack."""


MARK = _Mark()
_KEYS = (str, int, float, bytes, type(None))
STOP = b"."

#: What a malformed pickle makes the interpreter stumble over.
_MALFORMED = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
)


Opcode = Callable[["Machine"], object]


class Machine:
    """The stack machine of the pickle format, over plain values."""

    def __init__(self, raw: bytes, where: str) -> None:
        self.raw = raw
        self.where = where
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        #: Ordered sets.
        self.names: dict[str, None] = {}
        self.leftovers: dict[str, None] = {}
        self.storages: dict[str, Storage] = {}
        self.work_left = MAX_OPCODES

    def run(self, opcodes: Mapping[int, Opcode]) -> Any:
        """Follow the pickle to its end; the value that is left. Raises as `read_pickle` does."""
        raw = self.raw
        try:
            while (code := raw[self.at : self.at + 1]) != STOP:
                if not code:
                    raise self._cut_off()
                self.at += 1
                self.work_left -= 1
                if self.work_left < 0:
                    raise self._too_much()
                opcodes[code[0]](self)
            self.at += 1
            return self.stack.pop()
        except _MALFORMED as error:
            raise UnreadableModel(
                f"{self.where}: its pickle is malformed near byte {self.at} ({type(error).__name__}: {error})."
            ) from error

    def works(self, amount: int) -> None:
        """Count work. Raises UnreadableModel when it is more than a model can need."""
        self.work_left -= amount
        if self.work_left < 0:
            raise self._too_much()

    def _too_much(self) -> UnreadableModel:
        return UnreadableModel(f"{self.where}: its pickle has more than {MAX_OPCODES:,} opcodes and copied values.")

    def _cut_off(self) -> CutOffPickle:
        return CutOffPickle(f"{self.where}: its pickle is malformed or cut off at byte {self.at}. Copy the file again.")

    # Reading

    def take(self, count: int) -> bytes:
        start = self.at
        if count < 0:
            raise ValueError(f"{count} bytes wanted")
        if count > len(self.raw) - start:
            raise self._cut_off()
        self.at = start + count
        return self.raw[start : self.at]

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def line(self, encoding: str = "utf-8") -> str:
        end = self.raw.find(b"\n", self.at)
        if end < 0:
            raise self._cut_off()
        text = self.raw[self.at : end].decode(encoding)
        self.at = end + 1
        return text

    def since_mark(self) -> list[Any]:
        stack = self.stack
        place = len(stack) - 1
        while stack[place] is not MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark on the stack")
        values = stack[place + 1 :]
        del stack[place:]
        return values

    # Meaning

    def named(self, module: Any, name: Any) -> Global:
        """A name from the file. Raises UnsafeModel when only an attack needs it."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("the name of a global is not text")
        if len(module) + len(name) > MAX_NAME:
            raise ValueError(f"the name of a global has {len(module) + len(name):,} characters")
        full = f"{module}.{name}"
        self.names[full] = None
        kind = kind_of(module, name)
        if kind == "code":
            raise self.refused(full, "weights need no such thing, so loading this file could run a stranger's code")
        if kind == "leftover":
            self.leftovers[full] = None
        return Global(full, kind)

    def refused(self, full: str, why: str) -> UnsafeModel:
        name = shown(full)[1:-1]
        return UnsafeModel(f"{self.where}: the pickle asks for {name}; {why}. Nothing of it was run.", name)

    def refuse_made_by_leftovers(self, values: tuple[Any, ...]) -> None:
        """What a tensor is made of must be plain. Raises UnsafeModel otherwise."""
        for value in values:
            if (isinstance(value, Opaque) and value.is_leftover) or (
                isinstance(value, Global) and value.kind == "leftover"
            ):
                raise self.refused(value.name, "a tensor cannot be had without it")

    def called(self, function: Any, arguments: Any) -> Any:
        """What calling `function` would have given, as a plain value."""
        if isinstance(function, Opaque):
            raise self.refused(function.name, "and for what it makes to be called")
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise TypeError(f"a {type(function).__name__} is called")
        name = function.name
        if name in REBUILDERS:
            return _tensor(self, name, arguments)
        if name in DICTIONARIES:
            return _dictionary(self, arguments)
        if name == "torch.Size" and len(arguments) == 1 and isinstance(arguments[0], (tuple, list)):
            self.works(len(arguments[0]))
            return tuple(arguments[0])
        if function.kind == "leftover" and is_code_when_called(name):
            raise self.refused(name, "weights need no such thing, so loading this file could run a stranger's code")
        return Opaque(name, arguments, is_leftover=function.kind == "leftover")

    def persistent(self, reference: Any) -> Storage | Global:
        """A storage; or, in files before 1.6, the class of a module, which comes with its source."""
        self.refuse_made_by_leftovers((reference,))
        kind, named, *details = reference
        if kind == "module" and isinstance(named, Global):
            return named
        self.refuse_made_by_leftovers((named, *details))
        key, _location, count, *view = details
        if kind != "storage" or not isinstance(named, Global) or named.name not in STORAGES:
            raise ValueError("a persistent reference that is not to a storage")
        if not isinstance(key, str):
            key = str(_size(key))
        start = _size(view[0][1]) if view and view[0] is not None else 0
        found = Storage(key, STORAGES[named.name], _size(count), start)
        self.storages.setdefault(key, found)
        return found

    def put_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Opaque) else target
        if not isinstance(items, dict) or len(pairs) % 2:
            raise TypeError(f"items are put into a {type(target).__name__}")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Hashing a deeply nested tuple overflows the C stack, so only simple keys are kept.
            if isinstance(key, _KEYS):
                _put(items, key, value)

    def append_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Opaque):
            raise TypeError(f"values are appended to a {type(target).__name__}")

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.state = state
        elif not isinstance(target, (dict, Tensor)):
            raise TypeError(f"state is set on a {type(target).__name__}")

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]


def _tensor(machine: Machine, name: str, arguments: tuple[Any, ...]) -> Tensor:
    """The tensor that torch's rebuilding function would have made."""
    machine.refuse_made_by_leftovers(arguments[:4])
    if name.endswith("_rebuild_from_type_v2"):
        function, kind, inner, _state = arguments
        machine.refuse_made_by_leftovers((function, kind))
        value = machine.called(function, inner)
    elif "_rebuild_parameter" in name:
        value = arguments[0]
    else:
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, Storage):
            raise TypeError("a tensor without a storage")
        dtype = storage.dtype
        if name.endswith("_v3"):
            dtype = DTYPES[arguments[6].name]
        sizes, steps = _sizes(shape), _sizes(strides)
        if len(sizes) != len(steps):
            raise ValueError("a tensor with as many strides as dimensions was expected")
        return Tensor(storage, dtype, storage.start + _size(offset), sizes, steps)
    if not isinstance(value, Tensor):
        raise TypeError("a parameter that is no tensor")
    return value


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > 64:
        raise TypeError("a shape is not a short tuple")
    return tuple(_size(value) for value in values)


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_NUMBER:
        raise ValueError("a size, offset or stride is not a sensible whole number")
    return value


def _dictionary(machine: Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """OrderedDict() and OrderedDict([[key, value], …]); the factory of a defaultdict is dropped."""
    pairs = arguments[-1] if arguments and isinstance(arguments[-1], (list, tuple)) else ()
    machine.works(len(pairs))
    items: dict[Any, Any] = {}
    for key, value in pairs:
        if isinstance(key, _KEYS):
            _put(items, key, value)
    return items


def _put(items: dict[Any, Any], key: Any, value: Any) -> None:
    """No dictionary that was pickled has a key twice; readers could disagree about which one counts."""
    if key in items:
        raise ValueError(f"the key {shown(str(key))} occurs twice")
    items[key] = value
