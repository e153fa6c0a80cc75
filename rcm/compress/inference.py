"""Variables as inference needs them: norms as a multiplier and an offset per channel."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

from rcm.models.layers import BN_EPSILON


class NormVectors(NamedTuple):
    """float32 [channels]: inference computes x * multiplier + offset."""

    multiplier: np.ndarray
    offset: np.ndarray


def norms_of(params: Any, stats: Any) -> dict[str, NormVectors]:
    """Every norm by its path.

    Computed by the backend that predicts, in the order of `models.layers.Norm`, so that a norm
    written down this way predicts the same to the bit.
    """
    vectors = jax.device_get(_vectors(_find(params, stats, "")))
    return {path: NormVectors(*pair) for path, pair in vectors.items()}


@jax.jit
def _vectors(norms: dict[str, tuple]) -> dict[str, tuple[Array, Array]]:
    return {path: _inference(*leaves) for path, leaves in norms.items()}


def _inference(scale: Array, bias: Array, mean: Array, var: Array) -> tuple[Array, Array]:
    multiplier = scale * lax.rsqrt(var + BN_EPSILON)
    return multiplier, bias - mean * multiplier


def _find(params: Any, stats: Any, path: str) -> dict[str, tuple]:
    if "mean" in stats and "scale" in params:
        leaves = (params["scale"], params["bias"], stats["mean"], stats["var"])
        return {path: tuple(np.asarray(leaf, np.float32) for leaf in leaves)}
    found = {}
    for name in sorted(stats):
        if isinstance(params.get(name), Mapping):
            found |= _find(params[name], stats[name], f"{path}/{name}".lstrip("/"))
    return found


def norm_variables(vectors: NormVectors) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(params, batch_stats) of a norm with this multiplier and offset, exactly."""
    ones = np.ones_like(vectors.multiplier)
    params = {"scale": vectors.multiplier, "bias": vectors.offset}
    return params, {"mean": 0 * ones, "var": ones - np.float32(BN_EPSILON)}
