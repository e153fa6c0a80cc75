"""Ranges of activations, observed on calibration images that go through the model in one call.

- minmax: of all values (Jacob et al. 2018, arXiv 1712.05877);
- moving_average: of the minima and maxima of ten mini-batches, one after the other (Krishnamoorthi
  2018, arXiv 1806.08342, section 3.1.1, for ranges that single outliers do not decide);
- percentile: all but the largest and the smallest 100 - p per cent (Wu et al. 2020, arXiv
  2004.09602, section 4);
- mse: the share of the range in which rounding and clipping have the least squared error (Banner
  et al. 2019, arXiv 1810.05723; Nagel et al. 2021, arXiv 2106.08295, section 3.1).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.core import Tracer

from rcm import numerics
from rcm.compress.select import nth_smallest

METHODS = ("minmax", "moving_average", "percentile", "mse")
BATCHES = 10  # mini-batches of the moving average
DECAY = 0.9  # of the moving average, by mini-batch
SAMPLE = 1 << 16  # values of a layer, at most, on which `mse` is judged
SHARES = 64  # ranges that `mse` tries: 1/64, 2/64, .. 1 of the whole

Range = tuple[Array, Array]


def observe(
    model: Any, variables: Any, images: Array, range_of: Callable[[str, Array], Range]
) -> Any:
    """The collection `quant` of a network of `rcm.models` on float images [n, H, W, 3].

    range_of(path, x) -> (lo, hi), float32 scalars, for every quantization point such as `stem/conv`
    and its input x [n, ..]. It is called while the model runs, so that no input need be kept.
    """
    quant: dict[str, Any] = {}

    def listen(call: Callable, arguments: tuple, options: dict, context: Any) -> Any:
        if context.method_name == "quantize_input":
            node, path = quant, context.module.path
            for name in path:
                node = node.setdefault(name, {})
            lo, hi = range_of("/".join(path), arguments[0].astype(jnp.float32))
            node.update(lo=lo, hi=hi)
        return call(*arguments, **options)

    with nn.intercept_methods(listen):
        model.apply(variables, images)
    return quant


def observer(method: str, percent: Array, bits: Callable[[str], Array]) -> Callable | None:
    """The `range_of` of a word of METHODS, or None for `minmax`, which layers observe themselves.

    percent: of `percentile`; bits: those of a quantization point, for `mse`.
    """
    return {
        "minmax": None,
        "moving_average": lambda name, x: moving_average(x),
        "percentile": lambda name, x: percentile(x, percent),
        "mse": lambda name, x: least_squares(x, bits(name)),
    }[method]


def minmax(x: Array) -> Range:
    """(smallest, largest) value of x."""
    return x.min(), x.max()


def moving_average(x: Array) -> Range:
    """Moving averages, which begin at the first one, of the extremes of ten parts of x [n, ..]."""
    parts = jnp.array_split(x, min(BATCHES, x.shape[0]))
    lo, hi = minmax(parts[0])
    for part in parts[1:]:
        smallest, largest = minmax(part)
        lo = DECAY * lo + (1 - DECAY) * smallest
        hi = DECAY * hi + (1 - DECAY) * largest
    return lo, hi


def percentile(x: Array, percent: Array | float) -> Range:
    """(lo, hi): the largest value that `percent` % of x reach or exceed, and the smallest that
    `percent` % do not exceed, by nearest rank; 100 is `minmax`."""
    rank = jnp.ceil(x.size * (jnp.asarray(percent, jnp.float32) / 100)).astype(jnp.int32)
    rank = jnp.clip(rank, 1, x.size)
    return nth_smallest(x, x.size - rank + 1), nth_smallest(x, rank)


def least_squares(x: Array, bits: Array | int) -> Range:
    """The share of the range of x [n, ..], both ends alike, with the least squared error of `bits`
    bits.

    0 bits give the whole range. Of shares that are equally good the largest is taken.
    """
    lo, hi = minmax(x)
    sample = x.ravel()[:: sample_distance(x)]

    def error(share: Array) -> Array:
        rounded = numerics.fake_quant_affine(sample, lo * share, hi * share, bits)
        return jnp.square(rounded - sample).sum()

    shares = jnp.arange(SHARES, 0, -1) / SHARES
    best = shares[jnp.argmin(lax.map(error, shares))]
    return lo * best, hi * best


def sample_distance(x: Array) -> int:
    """The distance in x [n, ..] of the values of a sample of about SAMPLE, all of x if it is small.

    It has no factor in common with the size of one image, or the sample would keep to some of the
    channels: every 200th of values in 64 channels is always in one of the same eight.
    """
    distance = -(-x.size // SAMPLE)
    while math.gcd(distance, x[0].size) > 1:
        distance += 1
    return distance


def require_ranges(variables: Any, activation_bits: Any) -> None:
    """Raise ValueError if activations may be quantized and there are no calibrated ranges."""
    traced = isinstance(activation_bits, Tracer)
    if "quant" not in variables and (traced or int(activation_bits) > 0):
        raise ValueError(
            "Activations cannot be quantized without ranges: the variables have no collection "
            "'quant'; run the model on calibration images with mutable=['quant'] first."
        )


def without_ranges(found: Iterable[str], bits: Callable[[str], Array]) -> dict[str, Any]:
    """The collection `quant` that makes every layer quantize by its own input.

    found: paths of kernels; bits: of the quantization point at the path of a layer.
    """
    quant: dict[str, Any] = {}
    for kernel in found:
        node, name = quant, kernel.removesuffix("/kernel")
        for part in name.split("/"):
            node = node.setdefault(part, {})
        node["bits"] = bits(name)
    return quant
