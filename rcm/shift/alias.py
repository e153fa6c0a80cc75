"""Exact sampling of discrete laws over 256 outcomes by the alias method (Walker 1977).

A law is cut into 256 columns of equal weight, each shared by at most two outcomes: the column's own
and its alias. One 32-bit draw then suffices: 8 bits pick the column, 24 bits pick one of the two.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array


def build(laws: np.ndarray) -> np.ndarray:
    """Alias tables uint32 [..., 256] of the probabilities float64 [..., 256] over the last axis.

    An entry holds the share that a column keeps (upper 24 bits, in 2^-24) and its alias (lower 8).
    A probability is kept to 2^-32; one below that may become 0. Raises ValueError where the last
    axis does not sum to 1.
    """
    if laws.shape[-1] != 256 or not np.allclose(laws.sum(-1), 1, atol=1e-9):
        raise ValueError(
            "a law must be 256 probabilities that sum to 1 along the last axis, "
            f"got shape {laws.shape}; normalise it first."
        )
    left = laws.reshape(-1, 256) * 256
    share, alias = np.ones_like(left), np.tile(np.arange(256), (len(left), 1))
    waiting = left.copy()  # the same weights, with finished columns out of the way
    rows = np.arange(len(left))
    for _ in range(255):  # the poorest column is filled up by the richest, then leaves
        poor, rich = waiting.argmin(1), left.argmax(1)
        share[rows, poor], alias[rows, poor] = left[rows, poor], rich
        left[rows, rich] -= 1 - left[rows, poor]
        waiting[rows, rich] = left[rows, rich]
        left[rows, poor], waiting[rows, poor] = -np.inf, np.inf
    kept = np.round(share * 2**24).astype(np.int64)
    alias = np.where(kept >= 2**24, np.arange(256)[None, :], alias)
    packed = np.clip(kept, 0, 2**24 - 1) << 8 | alias
    return packed.astype(np.uint32).reshape(laws.shape)


def sample(tables: Array, rows: Array, bits: Array) -> Array:
    """One outcome per row of `tables` uint32 [R, 256]: rows uint8 [...], uint32 bits -> uint8."""
    column = bits & 255
    entry = (
        tables.reshape(-1)
        .at[(rows.astype(jnp.int32) << 8) | column.astype(jnp.int32)]
        .get(mode="promise_in_bounds")
    )
    return jnp.where(bits >> 8 < entry >> 8, column, entry & 255).astype(jnp.uint8)
