"""The bytes of a packed file, version 1: what surrounds a model's numbers.

| bytes | what |
|---|---|
| 8 | the magic number, `93 R C M P A C K` |
| 4 | version of the format, unsigned, little-endian like everything here |
| 4 | length of the header |
| 8 | length of the whole file |
| .. | the header, JSON (UTF-8): `network` and `tensors` |
| .. | the tensors' streams, one behind the other in the header's order |
| 32 | SHA-256 of all bytes before |

The first 24 bytes and the last 32 mean the same in every version, so that an older reader can tell
a newer file from a broken one. `network` is the class and the fields of a module of `rcm.models`. A
tensor has a `kind`, a `name` (its path), a `shape`, the length of its stream in `bytes`, and

- kernel: the fields of `encodings.Encoding` that differ from its defaults;
- norm: nothing; its stream is multiplier and offset, or where it is half as long the offset alone;
- vector: nothing; its stream is float32;
- point: `bits` and `leaves`, (name, shape) of the float32 numbers in its stream.
"""

import hashlib
import json
import struct
from typing import Any, NamedTuple

from rcm.compress.encodings import LARGEST_BOOK, Encoding
from rcm.compress.integers import StoredGrid
from rcm.foreign import parse_json

MAGIC = b"\x93RCMPACK"
VERSION = 1
PREFIX = struct.Struct("<8sIIQ")
CHECKSUM = hashlib.sha256().digest_size
KINDS = ("kernel", "norm", "vector", "point")


class Entry(NamedTuple):
    """A tensor in the header; see the module."""

    kind: str
    name: str
    shape: tuple[int, ...]
    bytes: int
    encoding: Encoding | None = None
    bits: int = 0
    leaves: tuple[tuple[str, tuple[int, ...]], ...] = ()


class Content(NamedTuple):
    """A file taken apart. network: as in the header; streams: one for each entry."""

    network: Any
    entries: list[Entry]
    streams: list[bytes]


def assemble(network: Any, entries: list[Entry], packed: bytes) -> bytes:
    """A file's bytes; network: as `network_fields` describes it; packed: all streams joined."""
    header = {"network": network, "tensors": [_plain(entry) for entry in entries]}
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    total = PREFIX.size + len(text) + len(packed) + CHECKSUM
    before = PREFIX.pack(MAGIC, VERSION, len(text), total) + text + packed
    return before + hashlib.sha256(before).digest()


def take_apart(data: bytes) -> Content:
    """The inverse of `assemble`. Raises ValueError, one sentence without a subject, for bytes that
    are foreign, truncated, damaged, of a newer version or that contradict themselves."""
    _require(data[: len(MAGIC)] == MAGIC, "is not a packed model of rcm (its first bytes differ).")
    _require(len(data) >= PREFIX.size, "is truncated: it ends within its first 24 bytes.")
    _, version, header_length, total = PREFIX.unpack_from(data)
    intact = hashlib.sha256(data[:-CHECKSUM]).digest() == data[-CHECKSUM:]
    if not intact:
        _require(
            len(data) >= total,
            f"is truncated: it has {len(data)} of {total} bytes; copy it again.",
        )
        raise ValueError("is damaged: its checksum does not match; copy it again.")
    _require(
        version <= VERSION,
        f"has version {version} of the format, which is newer than {VERSION}; update rcm.",
    )
    end = PREFIX.size + header_length
    _require(end + CHECKSUM <= len(data) == total, "contradicts itself about its length.")
    network, entries = _read_header(data[PREFIX.size : end])
    body = data[end:-CHECKSUM]
    _require(
        sum(entry.bytes for entry in entries) == len(body), "contradicts itself about its tensors."
    )
    streams, place = [], 0
    for entry in entries:
        streams.append(body[place : place + entry.bytes])
        place += entry.bytes
    return Content(network, entries, streams)


def _plain(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": entry.kind,
        "name": entry.name,
        "shape": entry.shape,
        "bytes": entry.bytes,
    }
    if entry.kind == "point":
        found |= {"bits": entry.bits, "leaves": entry.leaves}
    if entry.encoding:
        usual = Encoding()._asdict()
        found |= {k: v for k, v in entry.encoding._asdict().items() if v != usual[k]}
    return found


def _read_header(text: bytes) -> tuple[Any, list[Entry]]:
    try:
        header = parse_json(text)
    except ValueError as error:
        raise ValueError(f"has a header that cannot be read ({error}).") from error
    try:
        network, tensors = header["network"], header["tensors"]
        entries = [_read_entry(**tensor) for tensor in tensors]
    except (KeyError, TypeError) as error:
        raise ValueError(f"has a header that cannot be read ({type(error).__name__}).") from error
    return network, entries


def _read_entry(
    kind: str,
    name: str,
    shape: list,
    bytes: int,
    bits: int = 0,
    leaves: Any = (),
    **encoding: Any,
) -> Entry:
    """An entry of plausible types. Raises TypeError or ValueError."""
    _require(kind in KINDS and isinstance(name, str), f"has a tensor of the unknown kind {kind!r}.")
    _require(
        all(_is_count(n) for n in (bytes, bits, *shape)), f"has impossible numbers for {name!r}."
    )
    known = [(leaf, tuple(sides)) for leaf, sides in leaves]
    for leaf, sides in known:
        _require(isinstance(leaf, str) and all(map(_is_count, sides)), "has impossible leaves.")
    read = _read_encoding(**encoding) if kind == "kernel" else None
    return Entry(kind, name, tuple(shape), bytes, read, bits, tuple(known))


def _read_encoding(**fields: Any) -> Encoding:
    if fields.get("grid") is not None:
        bits, per_channel, symmetric = fields["grid"]
        _require(_is_count(bits) and 2 <= bits <= 16, "has a grid of impossible bits.")
        fields["grid"] = StoredGrid(bits, bool(per_channel), bool(symmetric))
    encoding = Encoding(**fields)
    one, other = encoding.width
    _require(
        all(map(_is_count, (one, other, encoding.written, encoding.entries)))
        and encoding.entries <= LARGEST_BOOK,
        "has impossible numbers in an encoding.",
    )
    encoding = encoding._replace(width=(one, other))
    encoding.require_known()
    return encoding


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)
