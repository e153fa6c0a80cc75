"""Stored bytes of a model: what its chain lets one write down, packed, then deflated.

Compression ratios follow the custom of the field: deflate (zlib, level 9) of the packed model
against deflate of the dense parent. A kernel is packed in the smallest encoding its chain allows,
judged after deflate; every encoding can be decoded exactly:

| chain | body | behind pruning also |
|---|---|---|
| none, filters | `float32` | bit mask + nonzero values |
| cluster | codebook + indices | bit mask + codebook + indices of nonzeros |
| cast | halves of 2 bytes | bit mask + nonzero halves |
| quantize | integers + float32 steps (and zero points) | bit mask + nonzero integers |
| cluster, quantize | integers, or codebook of integers + indices | bit mask + either |

Integers and indices of b bits are written bit-packed or, where that deflates better, one per byte
(two above 8 bits). Norms are stored as inference needs them: offset per channel, and multiplier
unless it was folded away; biases as float32; activation ranges as two float32 each. Names and
shapes are not counted: they are the same for every member of a study.
"""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rcm.compress.base import kernels
from rcm.compress.cast import Cast, halves
from rcm.compress.cluster import Cluster
from rcm.compress.dynamic import DynamicSparse
from rcm.compress.filters import PruneFilters, take_out
from rcm.compress.prune import Prune
from rcm.compress.qat import QAT
from rcm.compress.quantize import Quantize
from rcm.compress.weight_grids import Grid, stored_weights
from rcm.models.layers import BN_EPSILON
from rcm.numerics import FLOAT_FORMATS

LEVEL = 9


class SizeReport(NamedTuple):
    """Bytes. raw: all stored numbers as float32; packed: before deflate; deflated: as stored.

    encodings: what was chosen for each kernel.
    """

    raw: int
    packed: int
    deflated: int
    encodings: dict[str, str]

    def ratio(self, parent: "SizeReport") -> float:
        """Compression ratio: deflated bytes of the dense parent over these."""
        return parent.deflated / self.deflated


class Allowed(NamedTuple):
    """What a member's chain lets the encoder rely on; bits = 0 is float32, or the format of the
    code `cast`."""

    pruned: bool
    clustered: bool
    bits: int
    per_channel: bool
    symmetric: bool = True
    cast: int = 0


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
    if len(states) != len(techniques):
        raise ValueError(
            f"Got {len(states)} states for {len(techniques)} techniques; pass the states of the "
            "whole chain, one for each technique."
        )
    for technique, state in zip(techniques, states, strict=True):
        if isinstance(technique, PruneFilters):
            variables = take_out(variables, network.channels(), state.keep)
    streams, encodings, raw = [], {}, 0
    for name, kernel in kernels(variables["params"]).items():
        kernel = np.asarray(kernel, np.float32)
        allowed = _allowed(name, states, techniques, network)
        encodings[name], stream = smallest(encode_kernel(kernel, allowed))
        streams.append(stream)
        raw += kernel.nbytes
    for vector in _vectors(variables["params"], variables.get("batch_stats", {})):
        streams.append(vector.tobytes())
        raw += vector.nbytes
    streams += [vector.tobytes() for vector in _ranges(variables.get("quant", {}))]
    packed = b"".join(streams)
    return SizeReport(raw, len(packed), len(zlib.compress(packed, LEVEL)), encodings)


def encode_kernel(kernel: np.ndarray, allowed: Allowed) -> dict[str, bytes]:
    """Every encoding that `allowed` offers for a float32 kernel, by name."""
    body, head, present = kernel.ravel(), b"", kernel.ravel() != 0
    if allowed.bits:
        grid = Grid(allowed.per_channel, allowed.symmetric)
        integers, head = stored_weights(kernel, allowed.bits, grid)
        body = integers.ravel()
    elif allowed.cast:
        body = halves(body, allowed.cast)
    found = {name: head + part for name, part in _encode_body(body, allowed).items()}
    if allowed.pruned:
        mask = np.packbits(present).tobytes()
        nonzero = _encode_body(body[present], allowed)
        found |= {f"mask + {name}": head + mask + part for name, part in nonzero.items()}
    return found


def smallest(encodings: dict[str, bytes]) -> tuple[str, bytes]:
    """The (name, bytes) that deflate makes smallest; the first of equals."""
    return min(encodings.items(), key=lambda pair: len(zlib.compress(pair[1], LEVEL)))


def pack_bits(values: np.ndarray, bits: int) -> bytes:
    """Non-negative integers below 2^bits, most significant bit first, without gaps."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((values.astype(np.int64)[:, None] >> shifts) & 1).tobytes()


def _encode_body(body: np.ndarray, allowed: Allowed) -> dict[str, bytes]:
    found = _encode_values(body, allowed)
    if allowed.clustered:
        codebook, indices = np.unique(body, return_inverse=True)
        bits = max(int(codebook.size - 1).bit_length(), 1)
        values = min(_encode_values(codebook, allowed).values(), key=len)
        for name, part in _encode_integers(indices.ravel(), bits).items():
            found[f"codebook + {name} indices"] = values + part
    return found


def _encode_values(body: np.ndarray, allowed: Allowed) -> dict[str, bytes]:
    if allowed.bits:
        return _encode_integers(body, allowed.bits)
    return {FLOAT_FORMATS[allowed.cast]: body.astype("<u2" if allowed.cast else "<f4").tobytes()}


def _encode_integers(values: np.ndarray, bits: int) -> dict[str, bytes]:
    whole = values.astype("<u1" if bits <= 8 else "<u2").tobytes()
    return {f"{bits}-bit": pack_bits(values, bits), "byte-aligned": whole}


def _allowed(name: str, states: tuple, techniques: tuple, network: Any) -> Allowed:
    """What the chain lets the encoder of the kernel `name` rely on."""
    allowed = Allowed(pruned=False, clustered=False, bits=0, per_channel=True)
    for i, (technique, state) in enumerate(zip(techniques, states, strict=True)):
        match technique:
            case Prune():
                allowed = allowed._replace(pruned=float(state.sparsity) > 0)
            case DynamicSparse():
                allowed = allowed._replace(pruned=float(state.levels["sparsity"]) > 0)
            case Cluster():
                allowed = allowed._replace(clustered=int(state.clusters) > 0)
            case Quantize() | QAT():
                bits, grid = (
                    technique.weight_bits(state, name, network),
                    technique.grid(techniques[:i]),
                )
                allowed = allowed._replace(bits=bits, **grid._asdict())
            case Cast():
                allowed = allowed._replace(cast=int(state.code))
    return allowed


def _vectors(params: Any, stats: Any) -> list[np.ndarray]:
    """Biases, and norms as multiplier (unless it is 1 everywhere) and offset, float32."""
    if "mean" in stats and "scale" in params:
        scale, bias, mean, var = (
            np.asarray(x, np.float32)
            for x in (params["scale"], params["bias"], stats["mean"], stats["var"])
        )
        multiplier = scale / np.sqrt(var + np.float32(BN_EPSILON))
        offset = bias - mean * multiplier
        return [offset] if np.all(multiplier == 1) else [multiplier, offset]
    found = []
    for name in sorted(params):
        if isinstance(params[name], Mapping):
            found += _vectors(params[name], stats.get(name, {}))
        elif name != "kernel":
            found.append(np.asarray(params[name], np.float32).ravel())
    return found


def _ranges(quant: Any) -> list[np.ndarray]:
    """[lo, hi] of every activation quantization point that is on."""
    if not isinstance(quant, Mapping):
        return []  # what is beside a range, such as the bits of a dynamic one
    if "lo" in quant:
        on = "bits" in quant and int(quant["bits"]) > 0
        return [np.array([quant["lo"], quant["hi"]], np.float32)] if on else []
    return [vector for name in sorted(quant) for vector in _ranges(quant[name])]
