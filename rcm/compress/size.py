"""The ledger: stored bytes of a model, by what its chain lets one write down.

Compression ratios follow the custom of the field: deflate (zlib, level 9) of the packed model
against deflate of the dense parent. A kernel is packed in the smallest encoding its chain allows
(`encodings.py`), judged after deflate:

| chain | written are | behind pruning also |
|---|---|---|
| none, filters | `float32` | places + nonzero values |
| cluster | codebook (or one per channel) + indices | places + codebook + indices of nonzeros |
| quantize, qat | steps + integers | steps + places + nonzero integers |
| cluster, then either | integers, or codebook of integers + indices | places + either |

Places are a bit mask, gaps or the ranks of N:M groups; integers and indices are bit-packed, one per
byte (two above 8 bits) or Huffman-coded. Norms are stored as inference needs them: offset per
channel, and multiplier unless it was folded away; biases as float32; of an activation quantization
point its numbers (two float32: the range). What `packed.py` writes is exactly these bytes and a
header with names, shapes, encodings and bit widths, which is counted apart (`file`) because it
hardly differs between the members of a study.
"""

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import zstandard

from rcm.compress.base import kernels, named_leaves
from rcm.compress.cast import Cast
from rcm.compress.cluster import Cluster, clusters_of
from rcm.compress.container import Entry, assemble
from rcm.compress.dynamic import DynamicSparse
from rcm.compress.encodings import Allowed, Encoding, Parts, encode_kernel
from rcm.compress.filters import PruneFilters, shrink
from rcm.compress.inference import norms_of
from rcm.compress.integers import StoredGrid
from rcm.compress.masks import pruned_count
from rcm.compress.prune import Prune
from rcm.compress.qat import QAT
from rcm.compress.quantize import Quantize
from rcm.models.count import count
from rcm.models.record import network_fields
from rcm.numerics import FLOAT_FORMATS

LEVEL = 9  # of deflate
ZSTD_LEVEL = 19  # the highest that needs no large window to decode
# of a quantization point: in the header, or of no use to inference
BESIDE_BITS = ("bits", "decay", "learned")


class SizeReport(NamedTuple):
    """Bytes. raw: all stored numbers as float32; packed: before deflate; deflated, zstd: of packed;
    file: of the packed file, header and checksum included.

    raw counts the tensors that this member has: with filters taken out and norms folded away.
    encodings: what was chosen for each kernel. parts: packed bytes by what they hold (steps, zero
    points, places, codebooks, numbers, norms, biases, ranges). network: the one that reads the
    model, which filter pruning has made smaller; None if none was given.
    """

    raw: int
    packed: int
    deflated: int
    zstd: int
    file: int
    encodings: dict[str, str]
    parts: dict[str, int]
    network: Any

    def ratio(self, parent: "SizeReport") -> float:
        """Compression ratio: deflated bytes of the dense parent over these."""
        return parent.deflated / self.deflated

    @property
    def totals(self) -> dict[str, int]:
        """The ledger's totals by their names in a results table."""
        return {
            "bytes_dense": self.raw,
            "bytes_packed": self.packed,
            "bytes_zstd": self.zstd,
            "bytes_file": self.file,
        }

    def counted(self, image: tuple[int, int, int]) -> dict[str, int]:
        """`totals`, and the network's parameters and multiply-accumulates for an image [H, W, 3]:
        what dense hardware computes, for which a weight that is zero is a weight like any other."""
        return {**self.totals, **count(self.network, image)._asdict()}


class Written(NamedTuple):
    """A model written down: the network that reads it (None if none was given), an entry for each
    tensor with its parts, and the bytes of all its numbers as float32."""

    network: Any
    entries: list[tuple[Entry, Parts]]
    raw: int


def stored_bytes(
    variables: Mapping[str, Any],
    states: tuple = (),
    techniques: tuple = (),
    network: Any = None,
) -> SizeReport:
    """Size of one member.

    variables: its *effective* variables (`chain.apply`), numpy, without a member axis; states: the
    chain's states, of which the levels are read, so that a technique switched off counts as absent;
    techniques: the chain; network: a module of `rcm.models`, needed by techniques that ask for its
    channels or outer layers. Raises ValueError if states and techniques differ in length.
    """
    return report(write_down(variables, states, techniques, network))


def file_bytes(written: Written) -> bytes:
    """What a packed file of this model holds."""
    network = None if written.network is None else network_fields(written.network)
    return assemble(network, [entry for entry, _ in written.entries], _packed(written))


def report(written: Written) -> SizeReport:
    """The ledger of a model that is written down."""
    packed = _packed(written)
    parts: Counter = Counter()
    for _, held in written.entries:
        parts.update({name: len(data) for name, data in held.items()})
    return SizeReport(
        raw=written.raw,
        packed=len(packed),
        deflated=len(zlib.compress(packed, LEVEL)),
        zstd=len(zstandard.compress(packed, ZSTD_LEVEL)),
        file=len(file_bytes(written)),
        encodings={e.name: e.encoding.name for e, _ in written.entries if e.encoding},
        parts=dict(parts),
        network=written.network,
    )


def write_down(
    variables: Mapping[str, Any], states: tuple, techniques: tuple, network: Any
) -> Written:
    """A member's entries and bytes; arguments and errors are those of `stored_bytes`."""
    if len(states) != len(techniques):
        raise ValueError(
            f"Got {len(states)} states for {len(techniques)} techniques; pass the states of the "
            "whole chain, one for each technique."
        )
    keep = _kept_channels(states, techniques)
    if keep:
        network, variables = shrink(network, variables, keep)
    found = kernels(variables["params"])
    entries = []
    for name, kernel in found.items():
        kernel = np.asarray(kernel, np.float32)
        allowed = _allowed(name, states, techniques, network)
        encoding, parts = smallest(encode_kernel(kernel, allowed))
        entries.append((Entry("kernel", name, kernel.shape, length(parts), encoding), parts))
    vectors = _vectors(variables["params"], variables.get("batch_stats", {}))
    raw = sum(4 * np.size(k) for k in found.values()) + sum(length(parts) for _, parts in vectors)
    entries += vectors + _points(variables.get("quant", {}), "")
    return Written(network, entries, raw)


def smallest(encodings: list[tuple[Encoding, Parts]]) -> tuple[Encoding, Parts]:
    """The one that deflate makes smallest; the first of equals."""
    return min(encodings, key=lambda pair: len(zlib.compress(b"".join(pair[1].values()), LEVEL)))


def length(parts: Parts) -> int:
    """Bytes of a stream."""
    return sum(map(len, parts.values()))


def _packed(written: Written) -> bytes:
    return b"".join(data for _, parts in written.entries for data in parts.values())


def _kept_channels(states: tuple, techniques: tuple) -> dict[str, np.ndarray]:
    """bool [channels] by group: what every filter pruning of the chain has kept."""
    kept: dict[str, np.ndarray] = {}
    for technique, state in zip(techniques, states, strict=True):
        if isinstance(technique, PruneFilters):
            for name, mask in state.keep.items():
                kept[name] = kept.get(name, np.bool_(True)) & np.asarray(mask)
    return kept


def _allowed(name: str, states: tuple, techniques: tuple, network: Any) -> Allowed:
    """What the chain lets the encoder of the kernel `name` rely on."""
    allowed = Allowed()
    for i, (technique, state) in enumerate(zip(techniques, states, strict=True)):
        match technique:
            case Prune() if float(state.sparsity) > 0:
                allowed = allowed._replace(pruned=True, pattern=_pattern(technique, state))
            case DynamicSparse() if float(state.levels["sparsity"]) > 0:
                allowed = allowed._replace(pruned=True)
            case Cluster() if int(clusters_of(state, name, technique.rule)) > 0:
                books = "channel" if technique.per_channel else "tensor"
                allowed = allowed._replace(books=books)
            case Quantize() | QAT() if bits := technique.weight_bits(state, name, network):
                grid = StoredGrid(bits, *technique.grid(techniques[:i]))
                allowed = allowed._replace(grid=grid)
            case Cast():
                allowed = allowed._replace(numbers=FLOAT_FORMATS[int(state.code)])
    return allowed


def _pattern(technique: Prune, state: Any) -> tuple[int, int]:
    """(n, m) of an N:M pruning in force, else (0, 0)."""
    if technique.structure != "n_of_m":
        return 0, 0
    pruned = int(pruned_count(float(state.sparsity), technique.group))
    return technique.group - pruned, technique.group


def _vectors(params: Any, stats: Any) -> list[tuple[Entry, Parts]]:
    """Norms as multiplier (unless it is 1 everywhere) and offset, other vectors as float32."""
    norms = norms_of(params, stats)
    found = []
    for path, (multiplier, offset) in norms.items():
        needed = [offset] if np.all(multiplier == 1) else [multiplier, offset]
        parts = {"norms": b"".join(vector.astype("<f4").tobytes() for vector in needed)}
        found.append((Entry("norm", path, offset.shape, length(parts)), parts))
    for name, leaf in sorted(named_leaves(params).items()):
        if name.rpartition("/")[0] not in norms and not name.endswith("kernel"):
            vector = np.asarray(leaf, "<f4")
            parts = {"biases": vector.tobytes()}
            found.append((Entry("vector", name, vector.shape, vector.nbytes), parts))
    return found


def _points(quant: Any, path: str) -> list[tuple[Entry, Parts]]:
    """The numbers of every activation quantization point that is on; one whose ranges are those of
    each image has none."""
    if not isinstance(quant, Mapping):
        return []  # a range that nothing quantizes with, or whether a norm was frozen
    if "bits" not in quant:
        nodes = [_points(quant[name], f"{path}/{name}".lstrip("/")) for name in sorted(quant)]
        return [point for node in nodes for point in node]
    if int(quant["bits"]) == 0:
        return []
    numbers = {n: np.asarray(leaf, "<f4") for n, leaf in quant.items() if n not in BESIDE_BITS}
    parts = {"ranges": b"".join(number.tobytes() for number in numbers.values())}
    leaves = tuple((name, number.shape) for name, number in numbers.items())
    return [
        (Entry("point", path, (), length(parts), bits=int(quant["bits"]), leaves=leaves), parts)
    ]
