"""The opcodes of the pickle format, by their byte: a function each, over the `Machine`. Called by `pickles`."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from invokeai_daemon.errors import UnsafeModel
from invokeai_daemon.models.formats.pickle_machine import MARK, Machine
from invokeai_daemon.models.formats.pickle_values import Opaque

_U1, _U2, _U4, _U8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q"))
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _push(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(value)


def _push_number(form: struct.Struct) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.number(form))


def _push_bytes(form: struct.Struct) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.take(machine.number(form)))


def _push_text(form: struct.Struct, encoding: str = "utf-8") -> Callable[[Machine], None]:
    errors = "surrogatepass" if encoding == "utf-8" else "strict"
    return lambda machine: machine.stack.append(machine.take(machine.number(form)).decode(encoding, errors))


def _push_long(form: struct.Struct) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(
        int.from_bytes(machine.take(machine.number(form)), "little", signed=True)
    )


def _memoize(form: struct.Struct) -> Callable[[Machine], None]:
    return lambda machine: machine.remember(machine.number(form))


def _get(form: struct.Struct) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(machine.memo[machine.number(form)])


def _tuple_of(count: int) -> Callable[[Machine], None]:
    def opcode(machine: Machine) -> None:
        values = tuple(machine.stack[-count:])
        if len(values) < count:
            raise IndexError("the stack is too short")
        machine.stack[-count:] = [values]

    return opcode


def _global(machine: Machine) -> None:
    machine.stack.append(machine.named(machine.line(), machine.line()))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.named(module, name))


def _inst(machine: Machine) -> None:
    named = machine.named(machine.line(), machine.line())
    machine.stack.append(machine.called(named, tuple(machine.since_mark())))


def _obj(machine: Machine) -> None:
    function, *arguments = machine.since_mark()
    machine.stack.append(machine.called(function, tuple(arguments)))


def _reduce(machine: Machine) -> None:
    arguments = machine.stack.pop()
    machine.stack[-1] = machine.called(machine.stack[-1], arguments)


def _new_object_with_keywords(machine: Machine) -> None:
    machine.stack.pop()
    _reduce(machine)


def _extension(machine: Machine) -> None:
    raise UnsafeModel(
        f"{machine.where}: the pickle asks for an object of the copyreg extension registry; weights need none.",
        "copyreg",
    )


def _text_integer(machine: Machine) -> None:
    line = machine.line()
    machine.stack.append({"00": False, "01": True}.get(line, int(line)))


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.put_items([key, value])


def _dict(machine: Machine) -> None:
    pairs = machine.since_mark()
    machine.stack.append({})
    machine.put_items(pairs)


def _frozenset(machine: Machine) -> None:
    machine.stack.append(Opaque("builtins.frozenset", tuple(machine.since_mark())))


def _opcodes() -> dict[int, Callable[[Machine], object]]:
    table: dict[bytes, Callable[[Machine], object]] = {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME
        b"(": _push(MARK),
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


OPCODES = _opcodes()
