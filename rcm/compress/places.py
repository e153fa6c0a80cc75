"""Where the written numbers of a sparse kernel stand: bit mask, gaps, or ranks of N:M groups.

Host side, numpy. A kernel is read row-major as a flat array.

- mask: a bit for every weight, set where it is written.
- gaps: compressed sparse rows with relative indices (Han et al. 2016, arXiv 1510.00149, figure 2),
  all weights as one row: before each written weight the number of weights skipped, in codes of
  `bits` bits. The largest code is an escape that skips as many and writes none, where Han et al.
  write a filler zero.
- pattern: every group of M neighbouring input channels writes N weights; which ones is the rank of
  that choice among all C(M, N), in ceil(log2 C(M, N)) bits (combinatorial number system).
"""

from math import comb

import numpy as np

from rcm.compress.codes import pack_bits, unpack_bits

GAP_WIDTHS = range(2, 17)
LARGEST_GROUP = 64  # M of an N:M pattern; C(64, 32) is below 2^63


def write_mask(chosen: np.ndarray) -> bytes:
    """Of a bool array [n]."""
    return np.packbits(chosen).tobytes()


def read_mask(data: bytes, size: int) -> np.ndarray:
    """The inverse of `write_mask`."""
    return unpack_bits(data, 1, size).astype(bool)


def write_gaps(chosen: np.ndarray) -> tuple[int, int, bytes]:
    """(bits of a code, codes, bytes) of a bool array [n], with the width that takes fewest bits."""
    skipped = np.diff(np.flatnonzero(chosen), prepend=-1) - 1
    needed = {bits: bits * _gap_codes(skipped, bits) for bits in GAP_WIDTHS}
    bits = min(needed, key=lambda width: needed[width])
    escape = 2**bits - 1
    escapes = skipped // escape
    codes = np.full(skipped.size + int(escapes.sum()), escape)
    codes[np.cumsum(escapes + 1) - 1] = skipped % escape
    return bits, codes.size, pack_bits(codes, bits)


def read_gaps(data: bytes, bits: int, codes: int, size: int) -> np.ndarray:
    """The inverse of `write_gaps`. Raises ValueError for weights behind the end."""
    values, escape = unpack_bits(data, bits, codes), 2**bits - 1
    ends = np.cumsum(np.where(values == escape, escape, values + 1))
    chosen = np.zeros(size, bool)
    places = ends[values != escape] - 1
    if places.size and places[-1] >= size:
        raise ValueError("gaps that lead behind the end of a kernel.")
    chosen[places] = True
    return chosen


def _gap_codes(skipped: np.ndarray, bits: int) -> int:
    return skipped.size + int((skipped // (2**bits - 1)).sum())


def rank_bits(n: int, m: int) -> int:
    """Bits of the choice of n among m."""
    return (comb(m, n) - 1).bit_length()


def fill_pattern(nonzero: np.ndarray, n: int, m: int) -> np.ndarray | None:
    """bool, shaped like `nonzero` [.., I, O], with n of every m along the axis before the last: the
    nonzeros and, where they are fewer, the first of the others. None if a group has more."""
    groups = _grouped(nonzero, m)
    missing = n - groups.sum(-1, keepdims=True)
    if missing.min(initial=0) < 0:
        return None
    others = ~groups
    return _ungrouped(groups | (others & (np.cumsum(others, -1) <= missing)), nonzero.shape)


def write_pattern(chosen: np.ndarray, n: int, m: int) -> bytes:
    """Ranks of the groups of a bool array [.., I, O] with n of every m chosen."""
    groups = _grouped(chosen, m).reshape(-1, m)
    order = np.cumsum(groups, 1)
    table = _binomials(n, m)
    ranks = np.where(groups, table[np.arange(m)[None], order], 0).sum(1)
    return pack_bits(ranks, rank_bits(n, m))


def read_pattern(data: bytes, n: int, m: int, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `write_pattern`: bool of the shape. ValueError for ranks of no choice."""
    count = int(np.prod(shape)) // m
    ranks = unpack_bits(data, rank_bits(n, m), count)
    if ranks.max(initial=0) >= comb(m, n):
        raise ValueError(f"ranks of {n}:{m} groups that no choice has.")
    groups, table = np.zeros((count, m), bool), _binomials(n, m)
    for order in range(n, 0, -1):
        place = np.searchsorted(table[:, order], ranks, side="right") - 1
        groups[np.arange(count), place] = True
        ranks = ranks - table[place, order]
    return _ungrouped(groups, shape)


def _binomials(n: int, m: int) -> np.ndarray:
    """int64 [m, n + 1]: C(place, order)."""
    return np.array([[comb(place, order) for order in range(n + 1)] for place in range(m)])


def _grouped(array: np.ndarray, m: int) -> np.ndarray:
    """[.., I, O] as [.., I / m, O, m]."""
    *outer, inputs, outputs = array.shape
    return np.swapaxes(array.reshape(*outer, inputs // m, m, outputs), -1, -2)


def _ungrouped(groups: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    *outer, inputs, outputs = shape
    m = groups.shape[-1]
    return np.swapaxes(groups.reshape(*outer, inputs // m, outputs, m), -1, -2).reshape(shape)
