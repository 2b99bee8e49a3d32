"""A pickle is read as a description. Whatever it asks for, nothing of it runs."""

from __future__ import annotations

import pickle
import struct
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invokeai_daemon.errors import UnreadableModel, UnsafeModel
from invokeai_daemon.models.formats.pickles import MAX_OPCODES, Opaque, Tensor, read_pickle
from tests.models.build import call, dictionary, integer, named, pickle_of, storage, tensor, text, tuple_


def value_of(raw: bytes) -> object:
    return read_pickle(raw, "model.ckpt").value


def makes_folder(path: Path) -> bytes:
    """A payload that is harmless, and seen when it runs."""
    return call("posix.mkdir", text(str(path)))


def test_the_payload_of_these_tests_is_live(tmp_path: Path) -> None:
    pickle.loads(pickle_of(makes_folder(tmp_path / "canary")))
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_pickle_reads_them(protocol: int) -> None:
    value = {
        "text": "grün",
        "numbers": [0, 1, 255, 65535, -7, 2**40, -(2**70), 0.5],
        "logic": (True, False, None),
        "nested": {"a": {"b": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}},
        "shared": [["x"]] * 2,
    }
    if protocol >= 3:
        value["bytes"] = b"\0\xff"
    assert value_of(pickle.dumps(value, protocol)) == value


def test_a_tensor_becomes_a_reference_to_its_storage() -> None:
    found = value_of(pickle_of(dictionary({"w": tensor("7", (2, 3), offset=4, count=10, kind="torch.HalfStorage")})))
    assert isinstance(found, dict)
    weight = found["w"]
    assert isinstance(weight, Tensor)
    assert (weight.dtype, weight.shape, weight.strides, weight.offset) == ("F16", (2, 3), (3, 1), 4)
    assert (weight.storage.key, weight.storage.count) == ("7", 10)


def test_the_globals_are_reported_once_each() -> None:
    raw = pickle_of(dictionary({"a": tensor("0", (1,)), "b": tensor("1", (1,))}))
    assert read_pickle(raw, "model.ckpt").globals == (
        "torch._utils._rebuild_tensor_v2",
        "torch.FloatStorage",
        "collections.OrderedDict",
    )


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "nt.system",
        "subprocess.Popen",
        "builtins.eval",
        "builtins.exec",
        "builtins.getattr",
        "builtins.__import__",
        "__builtin__.eval",
        "__builtin__.apply",
        "sys.modules",
        "importlib.import_module",
        "runpy.run_path",
        "pkgutil.resolve_name",
        "operator.attrgetter",
        "operator.methodcaller",
        "functools.partial",
        "pydoc.locate",
        "pip.main",
        "asyncio.unix_events._UnixSubprocessTransport._start",
        "webbrowser.open",
        "shutil.rmtree",
        "codecs.open",
        "io.open",
        "socket.create_connection",
        "torch.load",
        "torch.hub.load",
        "torch.utils.collect_env.run",
        "torch._inductor.codecache.compile_file",
        "torch.FloatStorage.from_file",
        "torch.storage._load_from_bytes",
        "numpy.load",
        "numpy.core.multiarray.scalar.__globals__",
        "numpy.testing._private.utils.runstring",
        "pytorch_lightning.callbacks.os.system",
        "collections.OrderedDict.__init__.__globals__",
        "omegaconf.dictconfig.DictConfig.__class__",
        "pathlib.Path.write_text",
    ],
)
def test_a_global_that_weights_do_not_need_is_unsafe_and_named(name: str) -> None:
    with pytest.raises(UnsafeModel, match="the pickle asks for") as caught:
        value_of(pickle_of(call(name, text("x"))))
    assert caught.value.global_name == name


def opcode_variants(path: Path) -> dict[str, bytes]:
    """One payload through every opcode that can call, build or import."""
    argument = text(str(path))
    return {
        "GLOBAL, REDUCE": pickle_of(named("posix.mkdir") + tuple_(argument) + b"R"),
        "STACK_GLOBAL": b"\x80\x04" + text("posix") + text("mkdir") + b"\x93" + argument + b"\x85R.",
        "INST": b"(" + argument + b"iposix\nmkdir\n.",
        "OBJ": b"(" + named("posix.mkdir") + argument + b"o.",
        "NEWOBJ": b"\x80\x02" + named("posix.mkdir") + argument + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + named("posix.mkdir") + argument + b"\x85}\x92.",
        "text opcodes": f"cposix\nmkdir\n(S'{path}'\ntR.".encode(),
        "inside a storage": pickle_of(
            tuple_(text("storage"), makes_folder(path), text("0"), text("cpu"), integer(1)) + b"Q"
        ),
        "inside a key": pickle_of(b"}" + makes_folder(path) + b"Ns"),
        "inside a memo": pickle_of(makes_folder(path) + b"q\x00h\x00"),
        "as a state": pickle_of(call("collections.OrderedDict") + makes_folder(path) + b"b"),
        "as a leftover's argument": pickle_of(call("argparse.Namespace", makes_folder(path))),
        "as an unused value": pickle_of(makes_folder(path) + b"0N"),
        "in a rebuilder's place": pickle_of(
            call(
                "torch._tensor._rebuild_from_type_v2",
                named("posix.mkdir"),
                named("torch.Tensor"),
                tuple_(argument),
                b"N",
            )
        ),
        "extension registry": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("variant", opcode_variants(Path("x")))
def test_no_opcode_runs_anything(variant: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModel):
        value_of(opcode_variants(tmp_path / "canary")[variant])
    assert not (tmp_path / "canary").exists()


def test_leftovers_of_training_are_kept_as_values_that_do_nothing() -> None:
    checkpoint = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
    leftover = call(checkpoint) + dictionary({"best": integer(3)}) + b"b"
    found = value_of(pickle_of(dictionary({"callbacks": leftover, "w": tensor("0", (1,))})))
    assert isinstance(found, dict)
    assert found["callbacks"] == Opaque(checkpoint, (), {"best": 3}, is_leftover=True)
    assert isinstance(found["w"], Tensor)


def test_calling_what_is_no_global_is_malformed() -> None:
    with pytest.raises(UnreadableModel, match="a str is called"):
        value_of(pickle_of(text("posix.mkdir") + tuple_(text("x")) + b"R"))


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(UnreadableModel, match="3 bytes follow the end"):
        value_of(pickle_of(b"N") + b"abc")


FLOATS = storage("0", "torch.FloatStorage", 1)


def rebuilt(*arguments: bytes) -> bytes:
    return call("torch._utils._rebuild_tensor_v2", *arguments)


def nested_rebuilders(depth: int) -> bytes:
    function = named("torch._tensor._rebuild_from_type_v2")
    arguments = (function + b"N") * depth + b")" + b"Nt" * depth
    return function + arguments.replace(function + b"N", b"(" + function + b"N") + b"R"


@pytest.mark.parametrize(
    ("what", "raw"),
    [
        ("nothing", b""),
        ("no end", b"\x80\x02N"),
        ("an empty stack", b"."),
        ("an unknown opcode", b"\xff."),
        ("text beyond the end", b"X\xff\xff\xff\x7fabc."),
        ("bytes of 2^63", b"\x8e" + struct.pack("<Q", 2**63) + b"."),
        ("a bytearray of 4 GiB", b"\x96" + struct.pack("<Q", 2**32) + b"."),
        ("a negative length", b"T" + struct.pack("<i", -5) + b"abc."),
        ("no mark", b"NNt."),
        ("a memo that was not written", b"h\x07."),
        ("broken UTF-8", b"X\x02\0\0\0\xff\xff."),
        ("items in a list", b"](NNu."),
        ("an odd number of items", b"}(NNNu."),
        ("values in a dictionary", b"}(NNe."),
        ("a tuple of too few", b"N\x87."),
        ("a number of 5,000 digits", b"I" + b"9" * 5000 + b"\n."),
        ("a global without a name", b"cposix"),
        ("a negative offset", pickle_of(tensor("0", (2,), offset=-1))),
        ("a negative size", pickle_of(tensor("0", (-2,), count=2))),
        ("a size of 2^62", pickle_of(tensor("0", (2**62,), count=2))),
        ("strides for another shape", pickle_of(tensor("0", (2, 2), strides=(1,)))),
        ("1,000 dimensions", pickle_of(tensor("0", (1,) * 1000))),
        ("a shape of text", pickle_of(rebuilt(FLOATS, integer(0), text("a"), text("a")))),
        ("a reference to a module", pickle_of(tuple_(text("module"), b"N", text("a"), text("b"), b"N") + b"Q")),
        ("a tensor without a storage", pickle_of(rebuilt(text("0"), integer(0), tuple_(), tuple_()))),
        ("5,000 rebuilders in each other", pickle_of(nested_rebuilders(5000))),
    ],
)  # fmt: skip
def test_a_malformed_pickle_is_unreadable(what: str, raw: bytes) -> None:
    with pytest.raises(UnreadableModel):
        value_of(raw)


def test_deep_and_doubled_values_cost_neither_stack_nor_memory() -> None:
    deep_list = b"]" * 200_000 + b"a" * 199_999
    deep_key = b"}" + b")" + b"\x85" * 200_000 + b"Ns"
    doubled = b"]" + b"2\x86" * 40
    huge_memo = b"Nr\xff\xff\xff\xff"
    tracemalloc.start()
    for raw in (deep_list, deep_key, doubled, huge_memo):
        value_of(pickle_of(raw))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024 * 1024


def test_endless_work_is_refused() -> None:
    with pytest.raises(UnreadableModel, match="opcodes"):
        value_of(pickle_of(b"N0" * (MAX_OPCODES // 2 + 1) + b"N"))


VALID = pickle_of(
    dictionary(
        {
            "state_dict": dictionary({"a": tensor("0", (2, 3)), "b": tensor("1", (4,), kind="torch.HalfStorage")}),
            "callbacks": call("argparse.Namespace") + dictionary({"x": integer(1)}) + b"b",
            "step": integer(5),
        }
    )
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(min_size=0, max_size=3)), min_size=1, max_size=4))
def test_a_damaged_pickle_gives_a_value_or_one_of_two_errors(changes: list[tuple[int, bytes]]) -> None:
    raw = bytearray(VALID)
    for place, new in changes:
        raw[place : place + 1] = new
    try:
        read_pickle(bytes(raw), "model.ckpt")
    except (UnreadableModel, UnsafeModel) as error:
        assert str(error).startswith("model.ckpt: ")


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_one_of_two_errors(raw: bytes) -> None:
    with suppress(UnreadableModel, UnsafeModel):
        read_pickle(raw, "model.ckpt")


def test_a_checkpoint_of_a_thousand_tensors_is_read_in_a_moment() -> None:
    raw = pickle_of(dictionary({f"model.layer.{n}.weight": tensor(str(n), (320, 320, 3, 3)) for n in range(1100)}))
    start = time.process_time()
    value_of(raw)
    assert time.process_time() - start < 0.5
