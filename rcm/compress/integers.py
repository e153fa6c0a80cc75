"""Grids read off a kernel: the integers and steps that give its float32 weights back exactly.

For storage: a step is searched for among its neighbours until nothing is lost, and where none is
found there is no grid. `weight_grids.py` reads roughly instead, for checks of any kernel.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ULPS = (0, 1, -1, 2, -2, 3, -3)  # what a step read off the largest weight may be off by
MOST_TRIALS = 256  # largest integers that are tried for one grid; 255 is that of 8 bits


class StoredGrid(NamedTuple):
    """Integers of `bits` bits times one step per channel (the last axis) or per tensor.

    Symmetric grids hold -q..q with q = 2^(bits - 1) - 1 and are written as 0..2q; asymmetric ones
    any 2^bits neighbours, of which the lowest is written as 0 and has its place stored.
    """

    bits: int
    per_channel: bool = True
    symmetric: bool = True

    @property
    def limit(self) -> int:
        """Largest size of an integer."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric else 2**self.bits - 1

    @property
    def alphabet(self) -> int:
        """How many integers are written."""
        return 2**self.bits - 1 if self.symmetric else 2**self.bits

    @property
    def zero_kind(self) -> np.dtype:
        """What a stored zero point is."""
        return np.dtype("<i2" if self.bits < 16 else "<i4")

    def read(self, take: Callable[[int], bytes], channels: int) -> tuple[np.ndarray, np.ndarray]:
        """(steps float32, zero points int64), [channels] or [1], from the front of a stream."""
        count = channels if self.per_channel else 1
        steps = np.frombuffer(take(4 * count), "<f4").astype(np.float32)
        if self.symmetric:
            return steps, np.full(count, self.limit)
        zeros = np.frombuffer(take(self.zero_kind.itemsize * count), self.zero_kind)
        return steps, zeros.astype(np.int64)


class OnGrid(NamedTuple):
    """integers: int64, as written, shaped like the kernel; parts: steps and zero points."""

    integers: np.ndarray
    parts: dict[str, bytes]


def grid_of(kernel: np.ndarray, grid: StoredGrid) -> OnGrid | None:
    """A float32 kernel [.., channels] as integers on its grid, or None if it does not lie on one.

    A step is looked for so that integer * step is each weight exactly: first as if the largest
    weight were `grid.limit` steps, as where ranges follow the weights; failing that, as if it were
    fewer (at most 256 trials).
    """
    columns = kernel.shape[-1] if grid.per_channel else 1
    matrix = kernel.reshape(kernel.size // max(columns, 1), columns)
    steps, fit = _steps_of_largest(matrix, grid)
    for column in np.flatnonzero(~fit):
        step = _search(np.unique(matrix[:, column]), grid)
        if step is None:
            return None
        steps[column] = step
    integers = np.rint(matrix / steps).astype(np.int64)
    parts = {"steps": steps.astype("<f4").tobytes()}
    zeros = np.full(len(steps), grid.limit)
    if not grid.symmetric:
        zeros = -integers.min(0, initial=0)
        parts["zero points"] = zeros.astype(grid.zero_kind).tobytes()
    return OnGrid((integers + zeros).reshape(kernel.shape), parts)


def _steps_of_largest(matrix: np.ndarray, grid: StoredGrid) -> tuple[np.ndarray, np.ndarray]:
    """(steps float32 [columns], bool [columns]: exact), the largest weight being at the limit."""
    base = np.abs(matrix).max(0, initial=0) / np.float32(grid.limit)
    base = np.where(base > 0, base, 1).astype(np.float32)
    steps, fit = base.copy(), np.zeros(base.size, bool)
    for ulps in ULPS:
        left = np.flatnonzero(~fit)
        if not left.size:
            break
        tried = _moved(base[left], ulps)
        good = _exact(matrix[:, left], tried, grid, axis=0)
        steps[left[good]], fit[left[good]] = tried[good], True
    return steps, fit


def _search(values: np.ndarray, grid: StoredGrid) -> np.float32 | None:
    """The step of a column with these distinct weights, or None."""
    if values.size > grid.alphabet:
        return None
    largest = np.arange(grid.limit, max(grid.limit - MOST_TRIALS, 0), -1, dtype=np.float32)
    base = np.abs(values).max() / largest
    tried = np.stack([_moved(base, ulps) for ulps in ULPS], 1).ravel()
    tried = tried[tried > 0]
    good = np.flatnonzero(_exact(values[None], tried[:, None], grid, axis=1))
    return np.float32(tried[good[0]]) if good.size else None


def _exact(weights: np.ndarray, steps: np.ndarray, grid: StoredGrid, axis: int) -> np.ndarray:
    """bool: whether all weights along the axis are integers of the grid times the step."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # a step may underflow
        integers = np.rint(weights / steps)
        fit = (integers * steps == weights).all(axis)
    low, high = integers.min(axis, initial=0), integers.max(axis, initial=0)
    if grid.symmetric:
        return fit & (np.maximum(-low, high) <= grid.limit)
    return fit & (high - low < grid.alphabet)


def _moved(steps: np.ndarray, ulps: int) -> np.ndarray:
    """float32 steps, so many representable numbers further."""
    target = np.float32(np.inf if ulps > 0 else 0)
    for _ in range(abs(ulps)):
        steps = np.nextafter(steps, target)
    return steps
