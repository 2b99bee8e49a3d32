"""Pickles of weight files, read without running them: an interpreter that builds plain values and tensor references.

Called by the readers of torch's formats. It imports nothing and calls nothing that the file names: what a global is
taken for, `globals` says. One that can only be an attack is `UnsafeModel`; one that training left there becomes an
`Opaque`, and no tensor may be made from it. Work and memory are bounded by the size of the pickle. Never imports torch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.formats.base import shown
from invokeai_daemon.models.formats.globals import (
    DICTIONARIES,
    DTYPES,
    REBUILDERS,
    STORAGES,
    Kind,
    is_code_when_called,
    kind_of,
)

#: More opcodes than this in one pickle is an attack: 20,000 tensors need about 800,000. Values that one opcode copies
#: count as well.
MAX_OPCODES = 2_000_000
#: torch records storages at most this long in bytes; a larger number is nonsense (and would not fit a file offset).
MAX_NUMBER = 2**62


class CutOffPickle(UnreadableModel):
    """The pickle goes on beyond the bytes that were given."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A reference to the bytes of a storage of the file."""

    #: In an archive the member `data/<key>`.
    key: str
    #: Safetensors name; empty when the tensor says it.
    dtype: str
    #: Elements, or bytes where `dtype` is empty.
    count: int
    #: Elements of the storage before the first one of this view; only files of torch before 0.4 have such views.
    start: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage: offset and strides in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Global:
    """A name that the pickle asked for. It is a name; nothing was imported."""

    name: str
    kind: Kind


@dataclass(slots=True)
class Opaque:
    """A value of a class that is not built: what the pickle wanted to put into it is kept, as plain values."""

    name: str
    arguments: Any = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    #: Of a class that is not known to hold values only: nothing may be taken from it.
    is_leftover: bool = False


@dataclass(frozen=True)
class Reading:
    """What a pickle says."""

    #: None, bool, int, float, str, bytes, list, tuple, dict, `Tensor`, `Storage`, `Global` or `Opaque`.
    value: Any
    #: Every global that it names.
    globals: tuple[str, ...]
    #: Those that training left: nothing was made of them.
    leftovers: tuple[str, ...]
    #: Every storage that it refers to, by its key, as it is named first.
    storages: Mapping[str, Storage]
    #: Where it ends in the bytes that were given.
    end: int


class _Mark:
    """Where the arguments of a later opcode begin on the stack."""


_MARK = _Mark()
_KEYS = (str, int, float, bytes, type(None))


def read_pickle(raw: bytes, where: str, *, whole: bool = True) -> Reading:
    """What one pickle says.

    `where` names the file in messages; with `whole`, bytes after the end are an error.
    Raises UnsafeModel when it names what only an attack needs or makes a tensor from a leftover, UnreadableModel when
    it is malformed, and of those CutOffPickle when it goes on after `raw`.
    """
    machine = _Machine(raw, where)
    value = machine.run()
    if whole and machine.at != len(raw):
        raise UnreadableModel(f"{where}: {len(raw) - machine.at} bytes follow the end of its pickle.")
    return Reading(value, tuple(machine.names), tuple(machine.leftovers), machine.storages, machine.at)


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


class _Machine:
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

    def run(self) -> Any:
        raw = self.raw
        try:
            while (code := raw[self.at : self.at + 1]) != _STOP:
                if not code:
                    raise self._cut_off()
                self.at += 1
                self.work_left -= 1
                if self.work_left < 0:
                    raise self._too_much()
                _OPCODES[code[0]](self)
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
        while stack[place] is not _MARK:
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


def _tensor(machine: _Machine, name: str, arguments: tuple[Any, ...]) -> Tensor:
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


def _dictionary(machine: _Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
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


# The opcodes, by their byte. One function each; the names are those of the pickle format.

_STOP = b"."
_U1, _U2, _U4, _U8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q"))
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _push(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value)


def _push_number(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.number(form))


def _push_bytes(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.take(machine.number(form)))


def _push_text(form: struct.Struct, encoding: str = "utf-8") -> Callable[[_Machine], None]:
    errors = "surrogatepass" if encoding == "utf-8" else "strict"
    return lambda machine: machine.stack.append(machine.take(machine.number(form)).decode(encoding, errors))


def _push_long(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(
        int.from_bytes(machine.take(machine.number(form)), "little", signed=True)
    )


def _memoize(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.remember(machine.number(form))


def _get(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.memo[machine.number(form)])


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def opcode(machine: _Machine) -> None:
        values = tuple(machine.stack[-count:])
        if len(values) < count:
            raise IndexError("the stack is too short")
        machine.stack[-count:] = [values]

    return opcode


def _global(machine: _Machine) -> None:
    machine.stack.append(machine.named(machine.line(), machine.line()))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.named(module, name))


def _inst(machine: _Machine) -> None:
    named = machine.named(machine.line(), machine.line())
    machine.stack.append(machine.called(named, tuple(machine.since_mark())))


def _obj(machine: _Machine) -> None:
    function, *arguments = machine.since_mark()
    machine.stack.append(machine.called(function, tuple(arguments)))


def _reduce(machine: _Machine) -> None:
    arguments = machine.stack.pop()
    machine.stack[-1] = machine.called(machine.stack[-1], arguments)


def _new_object_with_keywords(machine: _Machine) -> None:
    machine.stack.pop()
    _reduce(machine)


def _extension(machine: _Machine) -> None:
    raise UnsafeModel(
        f"{machine.where}: the pickle asks for an object of the copyreg extension registry; weights need none.",
        "copyreg",
    )


def _text_integer(machine: _Machine) -> None:
    line = machine.line()
    machine.stack.append({"00": False, "01": True}.get(line, int(line)))


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.put_items([key, value])


def _dict(machine: _Machine) -> None:
    pairs = machine.since_mark()
    machine.stack.append({})
    machine.put_items(pairs)


def _frozenset(machine: _Machine) -> None:
    machine.stack.append(Opaque("builtins.frozenset", tuple(machine.since_mark())))


def _opcodes() -> dict[int, Callable[[_Machine], object]]:
    table: dict[bytes, Callable[[_Machine], object]] = {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME
        b"(": _push(_MARK),
        b"0": lambda m: m.stack.pop(),
        b"1": lambda m: m.since_mark(),
        b"2": lambda m: m.stack.append(m.stack[-1]),
        b"N": _push(None),
        b"\x88": _push(True),
        b"\x89": _push(False),
        b")": _push(()),
        b"K": _push_number(_U1),
        b"M": _push_number(_U2),
        b"J": _push_number(_I4),
        b"G": _push_number(_F8),
        b"\x8a": _push_long(_U1),
        b"\x8b": _push_long(_I4),
        b"X": _push_text(_U4),
        b"\x8c": _push_text(_U1),
        b"\x8d": _push_text(_U8),
        b"U": _push_text(_U1, "latin-1"),
        b"T": _push_text(_I4, "latin-1"),
        b"B": _push_bytes(_U4),
        b"C": _push_bytes(_U1),
        b"\x8e": _push_bytes(_U8),
        b"\x96": _push_bytes(_U8),
        b"I": _text_integer,
        b"L": lambda m: m.stack.append(int(m.line().rstrip("L"))),
        b"F": lambda m: m.stack.append(float(m.line())),
        b"S": lambda m: m.stack.append(m.line().strip("'\"")),
        b"V": lambda m: m.stack.append(m.line("raw-unicode-escape")),
        b"]": lambda m: m.stack.append([]),
        b"}": lambda m: m.stack.append({}),
        b"\x8f": lambda m: m.stack.append(Opaque("builtins.set")),
        b"l": lambda m: m.stack.append(m.since_mark()),
        b"t": lambda m: m.stack.append(tuple(m.since_mark())),
        b"d": _dict,
        b"\x91": _frozenset,
        b"\x85": _tuple_of(1),
        b"\x86": _tuple_of(2),
        b"\x87": _tuple_of(3),
        b"a": lambda m: m.append_items([m.stack.pop()]),
        b"e": lambda m: m.append_items(m.since_mark()),
        b"\x90": lambda m: m.append_items(m.since_mark()),
        b"s": _set_item,
        b"u": lambda m: m.put_items(m.since_mark()),
        b"q": _memoize(_U1),
        b"r": _memoize(_U4),
        b"p": lambda m: m.remember(int(m.line())),
        b"\x94": lambda m: m.remember(len(m.memo)),
        b"h": _get(_U1),
        b"j": _get(_U4),
        b"g": lambda m: m.stack.append(m.memo[int(m.line())]),
        b"c": _global,
        b"\x93": _stack_global,
        b"i": _inst,
        b"o": _obj,
        b"R": _reduce,
        b"\x81": _reduce,  # NEWOBJ
        b"\x92": _new_object_with_keywords,
        b"b": lambda m: m.build(m.stack.pop()),
        b"P": lambda m: m.stack.append(m.persistent(("storage", None, m.line(), None, 0))),
        b"Q": lambda m: m.stack.append(m.persistent(m.stack.pop())),
        b"\x82": _extension,
        b"\x83": _extension,
        b"\x84": _extension,
    }
    return {code[0]: function for code, function in table.items()}


_OPCODES = _opcodes()
