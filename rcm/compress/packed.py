"""Models as real files: `save_packed` writes one, `load_packed` gives back what predicts the same.

A file holds a member's effective variables in the encodings that the ledger counts (`size.py`), in
the format of `container.py`. What inference does not need is left out: norms are a multiplier and
an offset, observers of ranges that quantize nothing are gone, pruned channels are taken out. The
loaded network has the same logits, to the bit, as the simulated one on the backend that saved it
(after filter pruning: as the smaller one that `filters.shrink` gives).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rcm.compress.base import named_leaves
from rcm.compress.container import Content, Entry, take_apart
from rcm.compress.encodings import FLOATS, Reader, decode_kernel
from rcm.compress.inference import NormVectors, norm_variables
from rcm.compress.size import SizeReport, file_bytes, report, write_down
from rcm.files import write_bytes
from rcm.foreign import read_bytes
from rcm.models.record import read_network

LARGEST_MODEL = 2**28  # numbers: 1 GiB of float32, to which a file of any size may unpack
IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)  # a size that every network takes
FLOAT32 = FLOATS["float32"]


class Packed(NamedTuple):
    """A model ready to predict: network.apply(variables, images [B, H, W, 3] in [0, 1]) -> logits.

    network: a module of `rcm.models`; variables: params, and where the model has them batch_stats
    and quant (ranges and bits of activations), numpy.
    """

    network: Any
    variables: dict[str, Any]


def save_packed(
    path: str | Path,
    variables: Mapping[str, Any],
    states: tuple,
    techniques: tuple,
    network: Any,
) -> SizeReport:
    """Write one member to a file, complete or not at all, and give its ledger.

    Arguments are those of `size.stored_bytes`, the network not being optional. Raises ValueError
    for variables that are not the network's, hold numbers that are not finite, or for a path that
    cannot be written.
    """
    broken = [n for n, leaf in _numbers(variables).items() if not np.isfinite(leaf).all()]
    if broken:
        raise ValueError(f"{broken[0]} holds numbers that are not finite; the model diverged.")
    written = write_down(variables, states, techniques, network)
    try:
        _require_tensors(written.network, [entry for entry, _ in written.entries])
    except ValueError as error:
        raise ValueError(f"The model cannot be saved to {path}: it {error}") from error
    try:
        write_bytes(Path(path), file_bytes(written))
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}).") from error
    return report(written)


def load_packed(path: str | Path) -> Packed:
    """The model of a file. Raises ValueError, naming the file, if it cannot be read, is foreign,
    truncated, damaged, from a newer version of the format, or not a whole model."""
    try:
        data = read_bytes(Path(path))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    try:
        return _read(take_apart(data))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
    except Exception as error:  # a header can lie in more ways than can be listed
        raise ValueError(f"{path} contradicts itself ({type(error).__name__}).") from error


def _read(content: Content) -> Packed:
    try:
        network = read_network(content.network)
    except ValueError as error:
        raise ValueError(f"has no network of this version: {error}") from error
    _require_tensors(network, content.entries)
    flat: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}, "quant": {}}
    for entry, stream in zip(content.entries, content.streams, strict=True):
        try:
            _place(flat, entry, stream)
        except ValueError as error:
            raise ValueError(f"cannot be decoded at {entry.name}: {error}") from error
    return Packed(network, {name: _nest(leaves) for name, leaves in flat.items() if leaves})


def _place(flat: dict[str, dict[str, Any]], entry: Entry, stream: bytes) -> None:
    """Put the leaves of a tensor into the collections, by path."""
    name = entry.name
    if entry.kind == "kernel" and entry.encoding:
        flat["params"][name] = decode_kernel(stream, entry.shape, entry.encoding)
    elif entry.kind == "vector":
        flat["params"][name] = _floats(stream, entry.shape)
    elif entry.kind == "norm":
        channels = entry.shape[0]
        whole = _floats(stream, (len(stream) // (4 * channels), channels))
        if len(whole) > 2:
            raise ValueError(f"a norm of {len(whole)} vectors, which has two at most.")
        multiplier = whole[0] if len(whole) == 2 else np.ones(channels, np.float32)
        params, stats = norm_variables(NormVectors(multiplier, whole[-1]))
        flat["params"] |= {f"{name}/{leaf}": value for leaf, value in params.items()}
        flat["batch_stats"] |= {f"{name}/{leaf}": value for leaf, value in stats.items()}
    else:
        reader = Reader(stream)
        held = {leaf for leaf, _ in entry.leaves}
        if (held and not {"lo", "hi"} <= held) or entry.bits == 0:
            raise ValueError("a quantization point without a range or bits.")
        for leaf, shape in entry.leaves:
            taken = reader.take(4 * int(np.prod(shape)))
            flat["quant"][f"{name}/{leaf}"] = _floats(taken, shape)
        if reader.rest():
            raise ValueError("a quantization point with bytes behind its numbers.")
        flat["quant"][f"{name}/bits"] = np.int32(entry.bits)


def _floats(stream: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(stream, FLOAT32).astype(np.float32).reshape(shape)


def _require_tensors(network: Any, entries: list[Entry]) -> None:
    """Raise ValueError unless these are, each once, the kernels, vectors and norms of the network,
    and quantization points of its layers."""
    claimed = sum(int(np.prod(entry.shape, dtype=object)) for entry in entries)
    if claimed > LARGEST_MODEL:
        raise ValueError(f"claims to hold more than {LARGEST_MODEL} numbers.")
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), IMAGE)
    stats, params = named_leaves(shapes.get("batch_stats", {})), named_leaves(shapes["params"])
    norms = {_module(name): leaf.shape for name, leaf in stats.items()}
    expected = {("norm", name): shape for name, shape in norms.items()}
    for name, leaf in params.items():
        if _module(name) not in norms:
            expected["kernel" if name.endswith("/kernel") else "vector", name] = leaf.shape
    given = {(e.kind, e.name): e.shape for e in entries}
    points = {name for kind, name in given if kind == "point"}
    layers = {_module(name) for kind, name in expected if kind == "kernel"}
    tensors = {key: shape for key, shape in given.items() if key[0] != "point"}
    for name in layers:  # a cosine classifier may have got a bias by logit adjustment
        bias = ("vector", f"{name}/bias")
        if bias in tensors and network.classifier == "cosine" and name == network.edges[-1]:
            expected[bias] = (network.classes,)
    if tensors != expected or not points <= layers or len(given) < len(entries):
        names = {key[1] for key, _ in tensors.items() ^ expected.items()} | (points - layers)
        raise ValueError(
            f"does not hold the tensors of its network, such as {min(map(str, names), default='')}."
        )


def _module(name: str) -> str:
    return name.rpartition("/")[0]


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    """{path: leaf} as a nest of dicts."""
    nested: dict[str, Any] = {}
    for path, leaf in flat.items():
        *outer, last = path.split("/")
        node = nested
        for name in outer:
            node = node.setdefault(name, {})
        node[last] = leaf
    return nested


def _numbers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves that are written down, by path."""
    found = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    return named_leaves(found)
