"""Weight files for tests, written by hand so that every byte can be wrong on purpose. Sparse: 4 GB cost nothing."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from invokeai_daemon.models.header import BITS, Header, TensorInfo

# Pickles, opcode by opcode


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tuple_(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(name: str, *arguments: bytes) -> bytes:
    return named(name) + tuple_(*arguments) + b"R"


def dictionary(values: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def storage(key: str, kind: str, count: int, *, legacy: bool = False) -> bytes:
    """A reference to a storage; that of the format before 1.6 says whether it is a view."""
    view = [b"N"] if legacy else []
    return tuple_(text("storage"), named(kind), text(key), text("cpu"), integer(count), *view) + b"Q"


def tensor(
    key: str,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
    count: int | None = None,
    kind: str = "torch.FloatStorage",
    *,
    legacy: bool = False,
) -> bytes:
    """A tensor as torch pickles it; `count` is the length of its storage in elements."""
    steps = strides if strides is not None else [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    return call(
        "torch._utils._rebuild_tensor_v2",
        storage(key, kind, math.prod(shape) if count is None else count, legacy=legacy),
        integer(offset),
        tuple_(*map(integer, shape)),
        tuple_(*map(integer, steps)),
        b"\x89",
        call("collections.OrderedDict"),
    )


def pickle_of(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def legacy_file(
    value: bytes,
    storages: Mapping[str, tuple[int, bytes]],
    *,
    keys: bytes | None = None,
    version: int = 1001,
    little: bool = True,
    machine: bytes | None = None,
) -> bytes:
    """A torch file before 1.6; each storage with the count that stands before it and its bytes."""
    facts = machine or b"}(" + text("little_endian") + (b"\x88" if little else b"\x89") + b"u"
    listed = b"](" + b"".join(map(text, storages)) + b"e" if keys is None else keys
    magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
    pickles = b"".join(map(pickle_of, (magic, integer(version), facts, value, listed)))
    return pickles + b"".join(struct.pack("<q", count) + raw for count, raw in storages.values())


# Archives


@dataclass(frozen=True)
class Entry:
    """A member of an archive and what is wrong with it."""

    name: str
    content: bytes = b""
    #: Bytes beyond `content`, as a hole.
    hole: int = 0
    flags: int = 0
    method: int = 0
    crc: int | None = None
    #: Name in the local header, where it differs.
    local_name: str | None = None
    #: Where the directory says that it lies.
    says_offset: int | None = None
    says_size: int | None = None

    @property
    def size(self) -> int:
        return len(self.content) + self.hole


def write_zip(path: Path, entries: Sequence[Entry], before: bytes = b"", after: bytes = b"") -> Path:
    """An archive with zip64 sizes where they are needed, and an end record as torch writes it (zip64 as well)."""
    directory = b""
    with path.open("wb") as file:
        file.write(before)
        for entry in entries:
            directory += _add(file, entry)
        start = file.tell()
        file.write(directory)
        end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, *[len(entries)] * 2, len(directory), start)
        place = file.tell()
        file.write(end64 + struct.pack("<4sLQL", b"PK\6\7", 0, place, 1))
        counts = [min(len(entries), 0xFFFF)] * 2
        short = (min(len(directory), 0xFFFFFFFF), min(start, 0xFFFFFFFF))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *counts, *short, 0) + after)
    return path


def _add(file, entry: Entry) -> bytes:  # type: ignore[no-untyped-def]
    local = file.tell()
    crc = _crc(entry) if entry.crc is None else entry.crc
    if entry.hole:
        entry = replace(entry, flags=entry.flags | 0x8)
    size = entry.size if entry.says_size is None else entry.says_size
    name, local_name = entry.name.encode(), (entry.local_name or entry.name).encode()
    short = min(size, 0xFFFFFFFF)
    file.write(
        struct.pack("<4s5H3L2H", b"PK\3\4", 45, entry.flags, entry.method, 0, 0, crc, short, short, len(local_name), 0)
        + local_name
        + entry.content
    )
    if entry.hole:
        file.truncate(file.tell() + entry.hole)
        file.seek(0, 2)
    offset = local if entry.says_offset is None else entry.says_offset
    wide = [value for value in (size, size, offset) if value >= 0xFFFFFFFF]
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    record = struct.pack(
        "<4s6H3L5H2L",
        b"PK\1\2",
        45,
        45,
        entry.flags,
        entry.method,
        0,
        0,
        crc,
        short,
        short,
        len(name),
        len(extra),
        0,
        0,
        0,
        0,
        min(offset, 0xFFFFFFFF),
    )
    return record + name + extra


def _crc(entry: Entry) -> int:
    """The checksum of a member; of a long hole none, since it would have to be read."""
    if entry.hole > 256 << 20:
        return 0
    crc, left, zeros = zlib.crc32(entry.content), entry.hole, bytes(1 << 20)
    while left > 0:
        crc, left = zlib.crc32(zeros[:left], crc), left - len(zeros)
    return crc


def torch_entries(pickle: bytes, storages: Mapping[str, int | bytes]) -> list[Entry]:
    """The members of a torch archive; a storage is its bytes or their number."""
    return [
        Entry("archive/data.pkl", pickle),
        Entry("archive/byteorder", b"little"),
        *(
            Entry(f"archive/data/{key}", value)
            if isinstance(value, bytes)
            else Entry(f"archive/data/{key}", hole=value)
            for key, value in storages.items()
        ),
        Entry("archive/version", b"3\n"),
    ]


def write_checkpoint(path: Path, shapes: Mapping[str, Sequence[int]], outer: Mapping[str, bytes] | None = None) -> Path:
    """A `.ckpt` of float32 tensors, {"state_dict": …} with what else `outer` says."""
    tensors = {name: tensor(str(place), shape) for place, (name, shape) in enumerate(shapes.items())}
    sizes = {str(place): 4 * math.prod(shape) for place, shape in enumerate(shapes.values())}
    content = dictionary({"state_dict": dictionary(tensors), **(outer or {})})
    return write_zip(path, torch_entries(pickle_of(content), sizes))


# safetensors


def write_safetensors(
    path: Path, shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str] | None = None, dtype: str = "F16"
) -> Path:
    """A file of tensors that are holes."""
    header, at = {}, 0
    for name, shape in shapes.items():
        end = at + math.prod(shape) * BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    if metadata is not None:
        header["__metadata__"] = dict(metadata)
    return write_raw_safetensors(path, json.dumps(header).encode(), at)


def write_raw_safetensors(path: Path, header: bytes, data: int, length: int | None = None) -> Path:
    """Any header bytes, and a number of data bytes as a hole."""
    raw = struct.pack("<Q", len(header) if length is None else length) + header
    with path.open("wb") as file:
        file.write(raw)
        file.truncate(len(raw) + data)
    return path


# Headers without files


def header_of(
    shapes: Mapping[str, Sequence[int]],
    metadata: Mapping[str, str] | None = None,
    scalars: Mapping[str, int | float | str] | None = None,
) -> Header:
    tensors = {name: TensorInfo("F16", tuple(shape), 0, 2 * math.prod(shape)) for name, shape in shapes.items()}
    return Header(Path("model.safetensors"), "safetensors", 0, tensors, metadata or {}, scalars or {})


def sd_1(context: int = 768, channels: int = 4, text: int | None = 768) -> dict[str, Sequence[int]]:
    """The keys of an SD-1 checkpoint that tell what it is."""
    unet = "model.diffusion_model."
    shapes: dict[str, Sequence[int]] = {
        f"{unet}input_blocks.0.0.weight": (320, channels, 3, 3),
        f"{unet}input_blocks.1.1.proj_in.weight": (320, 320, 1, 1),
        f"{unet}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, context),
        f"{unet}input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, context),
        f"{unet}time_embed.0.weight": (1280, 320),
        f"{unet}out.2.weight": (4, 320, 3, 3),
        "first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
    }
    if text is not None:
        shapes["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"] = (49408, text)
    return shapes


# GGUF


def gguf_file(
    tensors: Sequence[bytes],
    values: Sequence[bytes] = (),
    data: int = 0,
    *,
    version: int = 3,
    tensors_said: int | None = None,
    keys_said: int | None = None,
) -> bytes:
    """A GGUF file of these entries, and a number of zero bytes on a multiple of 32 after them."""
    counts = (
        len(tensors) if tensors_said is None else tensors_said,
        len(values) if keys_said is None else keys_said,
    )
    raw = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(values) + b"".join(tensors)
    return raw + bytes(-len(raw) % 32 + data)


def _gguf_name(name: str | bytes) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_tensor(name: str | bytes, shape: Sequence[int], kind: int, offset: int) -> bytes:
    """The entry of a tensor; `shape` in the order of the format, `kind` the number of its type."""
    return _gguf_name(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf_value(key: str | bytes, kind: int, raw: bytes) -> bytes:
    return _gguf_name(key) + struct.pack("<I", kind) + raw


def gguf_text(key: str | bytes, text: str) -> bytes:
    return gguf_value(key, 8, _gguf_name(text))


def gguf_array(key: str, kind: int, count: int, raw: bytes = b"") -> bytes:
    return gguf_value(key, 9, struct.pack("<IQ", kind, count) + raw)
