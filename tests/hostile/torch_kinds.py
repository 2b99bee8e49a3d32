"""Torch files that carry code, lie about their members, or unfold; in archives and in the format before 1.6."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

from tests.hostile.kinds import Table, Write
from tests.models.build import (
    Entry,
    call,
    dictionary,
    integer,
    legacy_file,
    named,
    pickle_of,
    tensor,
    text,
    torch_entries,
    tuple_,
    write_zip,
)

TABLE = Table("torch:")
GOOD = {"state_dict": dictionary({"w": tensor("0", (2,))})}


def _archive(value: bytes, storages: dict[str, int | bytes] | None = None) -> Write:
    return lambda path, _canary: write_zip(path, torch_entries(pickle_of(value), storages or {"0": 8}))


# Code

#: Names whose only use is to do something, each called beside weights that are whole.
CODE = [
    *("os.system", "posix.system", "nt.system", "subprocess.Popen", "subprocess.check_output", "builtins.eval"),
    *("builtins.exec", "builtins.getattr", "builtins.__import__", "builtins.open", "builtins.compile", "builtins.map"),
    *("__builtin__.eval", "__builtin__.apply", "__builtin__.execfile", "sys.modules", "importlib.import_module"),
    *("runpy.run_path", "pty.spawn", "pkgutil.resolve_name", "operator.attrgetter", "operator.methodcaller"),
    *("functools.partial", "functools.reduce", "pydoc.locate", "pip.main", "pip._internal.main", "timeit.timeit"),
    *("asyncio.unix_events._UnixSubprocessTransport._start", "webbrowser.open", "shutil.rmtree", "codecs.open"),
    *(
        "io.open",
        "io.FileIO",
        "socket.create_connection",
        "ctypes.CDLL",
        "pickle.loads",
        "marshal.loads",
        "code.interact",
    ),
    *("imaplib.IMAP4_stream", "_pyrepl.pager.pipe_pager", "_osx_support._read_output", "_aix_support._read_cmd_output"),
    *("uuid._get_command_stdout", "bdb.Bdb.run", "cProfile.runctx", "doctest.debug_script", "ensurepip._run_pip"),
    *("idlelib.pyshell.ModifiedInterpreter.runcommand", "lib2to3.pgen2.grammar.Grammar.loads", "logging.config.listen"),
    *("profile.Profile.runctx", "trace.Trace.run", "types.CodeType", "types.FunctionType", "inspect.getattr_static"),
    *("pathlib.Path.write_text", "linecache.getline", "importlib.machinery.SourceFileLoader", "urllib.request.urlopen"),
    *("http.client.HTTPSConnection", "smtplib.SMTP", "venv.create", "zipimport.zipimporter", "tempfile.mkdtemp"),
    *("torch.load", "torch.hub.load", "torch.utils.collect_env.run", "torch._inductor.codecache.compile_file"),
    *("torch.FloatStorage.from_file", "torch.storage._load_from_bytes", "torch.jit.load", "torch.classes.load_library"),
    *("torch.ops.load_library", "torch.utils.cpp_extension.load", "torch.distributed.rpc.remote", "numpy.load"),
    *("numpy.testing._private.utils.runstring", "numpy.core.multiarray.scalar.__globals__", "numpy.f2py.compile"),
    *("collections.OrderedDict.__init__.__globals__", "pytorch_lightning.callbacks.os.system", "joblib.load"),
    *("dill.loads", "cloudpickle.loads", "cffi.FFI().dlopen", "transformers.pipeline", "diffusers.loaders.os.system"),
    *(
        "yaml.unsafe_load",
        "pandas.read_pickle",
        "copyreg.__newobj__",
        "copy.deepcopy",
        "weakref.finalize",
        "atexit.register",
    ),
]
for _name in CODE:
    _value = dictionary({**GOOD, "x": call(_name, text("true"))})
    TABLE.add(
        f"{_name} beside the weights",
        f"the pickle asks for {_name.replace('.', '[.]').split('(')[0]}",
        _archive(_value),
    )


def _payload(canary: Path) -> bytes:
    return call("posix.mkdir", text(str(canary)))


def _opcodes(name: str, raw: object) -> None:
    """A data.pkl made from the canary's path."""

    def write(path: Path, canary: Path) -> None:
        entries = torch_entries(b"", {"0": 8})
        write_zip(path, [replace(entries[0], content=raw(canary)), *entries[1:]])  # type: ignore[operator]

    TABLE.add(name, r"the pickle asks for (posix\.mkdir|an object of the copyreg)", write)


_opcodes("REDUCE", lambda canary: pickle_of(_payload(canary)))
_opcodes(
    "STACK_GLOBAL",
    lambda canary: b"\x80\x04" + text("posix") + text("mkdir") + b"\x93" + text(str(canary)) + b"\x85R.",
)
_opcodes("INST", lambda canary: b"(" + text(str(canary)) + b"iposix\nmkdir\n.")
_opcodes("OBJ", lambda canary: b"(" + named("posix.mkdir") + text(str(canary)) + b"o.")
_opcodes("NEWOBJ", lambda canary: b"\x80\x02" + named("posix.mkdir") + text(str(canary)) + b"\x85\x81.")
_opcodes("NEWOBJ_EX", lambda canary: b"\x80\x04" + named("posix.mkdir") + text(str(canary)) + b"\x85}\x92.")
_opcodes("text opcodes", lambda canary: f"cposix\nmkdir\n(S'{canary}'\ntR.".encode())
_opcodes("an extension", lambda _canary: b"\x80\x02\x82\x01.")
_opcodes(
    "a name over memo",
    lambda canary: b"\x80\x04" + text("mkdir") + b"\x940" + text("posix") + b"h\0\x93" + text(str(canary)) + b"\x85R.",
)
_opcodes(
    "inside a storage",
    lambda canary: pickle_of(tuple_(text("storage"), _payload(canary), text("0"), text("cpu"), integer(1)) + b"Q"),
)
_opcodes("inside a key", lambda canary: pickle_of(b"}" + _payload(canary) + b"Ns"))
_opcodes("a value that is thrown away", lambda canary: pickle_of(_payload(canary) + b"0" + dictionary(GOOD)))
_opcodes(
    "as the state of a plain dictionary",
    lambda canary: pickle_of(call("collections.OrderedDict") + _payload(canary) + b"b"),
)
_opcodes(
    "as a hook of a tensor",
    lambda canary: pickle_of(dictionary({"w": tensor("0", (2,))[:-1] + _payload(canary) + b"b"})),
)
_opcodes("a broken stream after it", lambda canary: pickle_of(_payload(canary) + b"0") + b"\xff\xff")


class _Evil:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


@TABLE.kind(r"the pickle asks for posix\.mkdir")
def a_bare_pickle(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(_Evil(canary)))


@TABLE.kind(r"the pickle asks for posix\.mkdir")
def a_bare_pickle_of_protocol_0(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(_Evil(canary), 0))


@TABLE.kind(r"the pickle asks for posix\.mkdir")
def a_magic_number_that_is_code(path: Path, canary: Path) -> None:
    path.write_bytes(pickle_of(_payload(canary)) + legacy_file(dictionary(GOOD), {"0": (2, bytes(8))}))


@TABLE.kind(r"the pickle asks for posix\.mkdir")
def an_old_file_with_code(path: Path, canary: Path) -> None:
    path.write_bytes(legacy_file(dictionary({**GOOD, "x": _payload(canary)}), {"0": (2, bytes(8))}))


@TABLE.kind(r"the pickle asks for posix\.mkdir")
def an_old_file_with_code_for_its_keys(path: Path, canary: Path) -> None:
    path.write_bytes(legacy_file(dictionary({"w": tensor("0", (2,), legacy=True)}), {}, keys=_payload(canary)))


# Tensors that cannot be had

for _what, _value, _why in [
    ("a model object", call("evil.Model"), "a whole program object"),
    ("weights of a strange class", dictionary({"state_dict": call("evil.Weights")}), "a whole program object"),
    ("a weight of a strange class", dictionary({"state_dict": dictionary({"w": call("evil.W")})}), "cannot be had"),
    ("a parameter of a strange class", dictionary({"w": call("torch._utils._rebuild_parameter", call("evil.W"))}), "cannot be had"),  # noqa: E501
    ("a storage of a strange class", dictionary({"w": tuple_(text("storage"), named("evil.S"), text("0"), text("cpu"), integer(1)) + b"Q"}), "cannot be had"),  # noqa: E501
    ("what a strange class makes is called", dictionary({**GOOD, "x": call("evil.F") + b")R"}), "to be called"),
    ("a tensor subclass", dictionary({"w": call("torch._tensor._rebuild_from_type_v2", named("torch._utils._rebuild_tensor_v2"), named("evil.T"), b")", b"N")}), "cannot be had"),  # noqa: E501
]:  # fmt: skip
    TABLE.add(_what, _why, _archive(_value))

# Numbers

for _what, _value, _why in [
    ("strides of zero over 2^40 elements", tensor("0", (2**20, 2**20), (0, 0), count=2), "would unfold"),
    ("strides that overlap", tensor("0", (2, 2), (0, 1), count=2), "would unfold"),
    ("nothing by 2^61", tensor("0", (0, 2**61), (1, 1), count=2), "cannot be"),
    ("a view beyond its storage", tensor("0", (3,), count=2), "reaches beyond"),
    ("an offset beyond its storage", tensor("0", (2,), offset=1, count=2), "reaches beyond"),
    ("a negative offset", tensor("0", (2,), offset=-1, count=2), "malformed"),
    ("an offset of 2^63", tensor("0", (2,), offset=2**63, count=2), "malformed"),
    ("a storage of 2^61", tensor("0", (2,), count=2**61), "should have"),
    ("a storage that is not there", tensor("9", (2,)), "are not in the file"),
    ("a storage outside the archive", tensor("../../etc/passwd", (2,)), "are not in the file"),
    ("1,000 dimensions", tensor("0", (1,) * 1000, count=2), "malformed"),
    ("a tensor never initialised", call("torch.Tensor", integer(65536), integer(32768)), ""),
]:
    TABLE.add(_what, _why, _archive(dictionary({"w": _value})), "unknown" if not _why else "rejected")

TABLE.add(
    "20,000 names for the same bytes",
    "unfold",
    _archive(dictionary({f"w{n}": tensor("0", (1000,)) for n in range(20_000)}), {"0": 4000}),
)
TABLE.add(
    "20,001 tensors",
    "more than 20,000 tensors",
    _archive(dictionary({f"w{n}": tensor("0", (1,)) for n in range(20_001)}), {"0": 4}),
)
TABLE.add("a name twice", "occurs twice", _archive(b"}(" + (text("w") + tensor("0", (2,))) * 2 + b"u"))
TABLE.add(
    "a name twice when it is unfolded",
    "are called 'a.b'",
    _archive(dictionary({"a.b": tensor("0", (2,)), "a": dictionary({"b": tensor("0", (2,))})})),
)
for _name in ("w\n", "w\0", "w\x1b[2J", "w\u202e", "../../x", "/etc/x", "x" * 5000):
    TABLE.add(f"a tensor called {ascii(_name)[:20]}", "the name", _archive(dictionary({_name: tensor("0", (2,))})))

# Work and memory

_memo_list = b"]q\0(" + b"N" * 20_000 + b"e0"
_inner = b"}q\0(" + b"".join(text(str(n)) + b"N" for n in range(2000)) + b"u0"
for _what, _raw, _why in [
    ("4 GiB of bytes", b"\x96" + struct.pack("<Q", 2**32), "cut off"),
    ("2^63 bytes", b"\x8e" + struct.pack("<Q", 2**63), "cut off"),
    ("200,000 lists in each other", b"]" * 200_000 + b"a" * 199_999, "a list, not a dictionary"),
    ("a tuple doubled 40 times", b"]" + b"2\x86" * 40, "a tuple, not a dictionary"),
    ("a memo of 2^32", b"Nr\xff\xff\xff\xff", "NoneType, not a dictionary"),
    ("3 million opcodes", b"N0" * 1_500_000 + b"N", "opcodes"),
    ("a million sets", b"\x8f0" * 1_000_001 + b"N", "opcodes"),
    ("a list copied 20,000 times", _memo_list + b"](" + (named("torch.Size") + b"h\0\x85R") * 20_000 + b"e", "opcodes"),
    (
        "one dictionary under 2,000 names",
        _inner + b"}(" + b"".join(text(str(n)) + b"h\0" for n in range(2000)) + b"u",
        "values",
    ),
    ("no end", b"}", "cut off"),
    ("no mark", b"NNt", "malformed"),
    ("an unknown opcode", b"\xff", "malformed"),
    ("a number of 5,000 digits", b"I" + b"9" * 5000 + b"\n", "malformed"),
    ("a list that holds itself", b"]q\0h\0a", "a list, not a dictionary"),
    ("a dictionary that holds itself", b"}q\0(" + text("a") + b"h\0u", ""),
]:
    _end = b"" if _what == "no end" else b"."
    TABLE.add(
        _what,
        _why,
        lambda path, _canary, raw=b"\x80\x02" + _raw + _end: write_zip(path, torch_entries(raw, {})),  # type: ignore[misc]
        "unknown" if not _why else "rejected",
    )

# Archives

_entries = torch_entries(pickle_of(dictionary(GOOD)), {"0": b"12345678"})
for _what, _changed, _why in [
    ("two pickles of one name", [*_entries, Entry("archive/data.pkl", pickle_of(b"}"))], "two members called"),
    ("two storages of one name", [*_entries, Entry("archive/data/0", b"evil")], "two members called"),
    ("a compressed member", [*_entries, Entry("archive/x", b"x", method=8)], "is compressed"),
    ("an encrypted member", [*_entries, Entry("archive/x", b"x", flags=1)], "encrypted"),
    ("a strongly encrypted member", [*_entries, Entry("archive/x", b"x", flags=0x40)], "encrypted"),
    ("strange flags", [*_entries, Entry("archive/x", b"x", flags=0x20)], "unusual flags"),
    ("a member above its folder", [*_entries, Entry("../evil", b"x")], "unsafe name"),
    ("a member deep above its folder", [*_entries, Entry("archive/../../evil", b"x")], "unsafe name"),
    ("an absolute member", [*_entries, Entry("/etc/evil", b"x")], "unsafe name"),
    ("a member on a drive", [*_entries, Entry("C:/evil", b"x")], "unsafe name"),
    ("a member with NUL", [*_entries, Entry("archive/\0x", b"x")], "unsafe name"),
    ("a member of two names", [*_entries, Entry("archive/x", b"x", local_name="archive/y")], "disagree about"),
    ("members on the same bytes", [*_entries, Entry("archive/x", b"x", says_offset=0)], "lie on the same bytes"),
    ("members that overlap", [*_entries, Entry("archive/x", b"x", says_offset=10)], "lie on the same bytes"),
    ("a member of a terabyte", [*_entries, Entry("archive/x", b"x", says_size=1 << 40)], "beyond the end"),
    ("a member beyond the end", [*_entries, Entry("archive/x", b"x", says_offset=1 << 30)], "cut off"),
    ("a pickle with a wrong checksum", [replace(_entries[0], crc=1), *_entries[1:]], "damaged"),
    ("a version with a wrong checksum", [*_entries[:-1], replace(_entries[-1], crc=1)], "damaged"),
    ("a pickle of 65 MB", [Entry("archive/data.pkl", hole=65 << 20)], "at most"),
    ("a program", [*_entries, Entry("archive/code/evil.py", b"x")], "a TorchScript program"),
    ("a second folder", [*_entries, Entry("other/data.pkl", pickle_of(b"}"))], "out of place"),
    ("another pickle", [*_entries, Entry("archive/evil.pkl", pickle_of(b"}"))], "out of place"),
    ("a big-endian mark", [replace(_entries[1], content=b"big"), _entries[0], *_entries[2:]], "big-endian"),
    ("no pickle", [Entry("photo.png", b"x")], "without tensors"),
]:
    TABLE.add(_what, _why, lambda path, _canary, entries=_changed: write_zip(path, entries))  # type: ignore[misc]

TABLE.add(
    "bytes before it",
    "not a weight file|before its first",
    lambda path, _: write_zip(path, _entries, before=b"#!/bin/sh\n"),
)
TABLE.add("bytes after it", "followed by other bytes", lambda path, _: write_zip(path, _entries, after=b"junk"))


@TABLE.kind("does not stand where|not where it should be")
def two_archives_in_one(path: Path, _canary: Path) -> None:
    raw = write_zip(path, _entries).read_bytes()
    path.write_bytes(raw + raw)


@TABLE.kind("whose end is missing|cut off")
def an_archive_without_an_end(path: Path, _canary: Path) -> None:
    raw = write_zip(path, _entries).read_bytes()
    path.write_bytes(raw[:-30])


@TABLE.kind("is compressed")
def a_storage_that_expands(path: Path, _canary: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle_of(dictionary({"w": tensor("0", (2**23,))})))
        archive.writestr("archive/data/0", bytes(2**25))


# Old files

_w = dictionary({"w": tensor("0", (2,), legacy=True)})
for _what, _raw, _why in [
    ("a storage of another length", legacy_file(_w, {"0": (3, bytes(12))}), "has 3"),
    ("a storage of less than nothing", legacy_file(_w, {"0": (-1, b"")}), "has -1"),
    ("a storage of 2^62", legacy_file(_w, {"0": (2**62, b"")}), "should have"),
    ("a storage that is cut off", legacy_file(_w, {"0": (2, bytes(4))}), "cut off"),
    ("bytes after the last storage", legacy_file(_w, {"0": (2, bytes(80))}), "follow its last storage"),
    ("a storage that is not there", legacy_file(_w, {}), "are not in the file"),
    ("a storage that nobody has", legacy_file(_w, {"0": (2, bytes(8)), "1": (0, b"")}), "belongs to no tensor"),
    ("a storage twice", legacy_file(_w, {"0": (2, bytes(8))}, keys=b"](" + text("0") * 2 + b"e"), "list of"),
    ("an unknown version", legacy_file(_w, {"0": (2, bytes(8))}, version=7), "unknown version"),
    ("a big-endian machine", legacy_file(_w, {"0": (2, bytes(8))}, little=False), "big-endian"),
    ("strides of zero", legacy_file(dictionary({"w": tensor("0", (2**20, 2**20), (0, 0), count=2, legacy=True)}), {"0": (2, bytes(8))}), "unfold"),  # noqa: E501
    ("an end in its pickle", legacy_file(_w, {})[:40], "cut off"),
]:  # fmt: skip
    TABLE.add(f"old: {_what}", _why, lambda path, _canary, raw=_raw: path.write_bytes(raw))  # type: ignore[misc]
