"""Simulated integers against integer arithmetic proper: int32 sums, int32 biases, requantization.

The integer side knows only integers, zero points, and one multiplier per channel. Convolutions are
written out as shifted windows in numpy.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcm import numerics
from rcm.compress import Quantize, build_chain
from rcm.compress.weight_grids import affine_weights, integer_weights
from rcm.models import MODELS
from rcm.models.layers import Conv, ConvNorm, Dense

pytestmark = pytest.mark.optimized

KEY = jax.random.key(0)


class Case(NamedTuple):
    """A layer with batch norm (but Dense), the size of its input, and what follows."""

    layer: object
    image: tuple[int, ...]
    top: float = np.inf  # relu6 clips here, relu nowhere


CASES = {
    "3x3": Case(ConvNorm(6, 3), (6, 6, 5)),
    "3x3 strided": Case(ConvNorm(6, 3, 2), (6, 6, 5)),
    "1x1": Case(ConvNorm(6, 1), (4, 4, 8)),
    "1x1 strided": Case(ConvNorm(6, 1, 2), (4, 4, 8)),
    "7x7 strided": Case(ConvNorm(4, 7, 2), (9, 9, 3)),
    "depthwise": Case(ConvNorm(6, 3, groups=6), (5, 5, 6), 6.0),
    "depthwise strided": Case(ConvNorm(6, 3, 2, groups=6), (6, 6, 6), 6.0),
    "with bias": Case(Conv(6, 3, use_bias=True), (5, 5, 4)),
    "with bias and norm": Case(ConvNorm(6, 3, use_bias=True), (5, 5, 4)),
    "dense": Case(Dense(7), (12,)),
}


def sums(x, kernel, stride, groups):
    """int32 sums of products, x [B, H, W, I] padded with zeros; [B, I] for a dense layer."""
    if x.ndim == 2:
        return x @ kernel
    size, pad = kernel.shape[0], (kernel.shape[0] - 1) // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    total = np.zeros((len(x), height, width, kernel.shape[-1]), np.int32)
    for i in range(size):
        for j in range(size):
            rows = slice(i, i + stride * (height - 1) + 1, stride)
            columns = slice(j, j + stride * (width - 1) + 1, stride)
            window = x[:, rows, columns]
            total += window * kernel[i, j, 0] if groups > 1 else window @ kernel[i, j]
    return total


def fixed_point(total, multiplier):
    """round(total * multiplier) by an int32 mantissa in [2^30, 2^31) and a right shift, as gemmlowp
    does it (Jacob et al. 2018, section 2.2); multiplier [C] positive."""
    mantissa, exponent = np.frexp(multiplier.astype(np.float64))
    mantissa = np.rint(mantissa * 2**31).astype(np.int64)
    shift = 31 - exponent.astype(np.int64)
    return (total.astype(np.int64) * mantissa + (np.int64(1) << (shift - 1))) >> shift


def floating_point(total, multiplier):
    return np.rint(total * multiplier.astype(np.float32)).astype(np.int64)


def quantized_input(x, point):
    """(integers minus zero point, step) of a layer's input."""
    scale, zero = numerics.affine_grid(
        *(jnp.float32(point[k]) for k in ("lo", "hi")), point["bits"]
    )
    limit = int(numerics.unsigned_limit(point["bits"]))
    integers = np.clip(np.rint(x / np.asarray(scale)) + np.asarray(zero), 0, limit)
    return integers.astype(np.int32) - np.int32(zero), np.float32(scale)


def quantized_kernel(kernel, technique):
    """(integers minus zero point, steps [C] or [1])."""
    per_channel = technique.grid(()).per_channel
    if technique.weights == "symmetric":
        integers, steps = integer_weights(kernel, technique.bits, per_channel)
        assert np.abs(integers).max() <= 2 ** (technique.bits - 1) - 1
        return integers, steps.ravel()
    integers, steps, zeros = affine_weights(kernel, technique.bits, per_channel)
    assert integers.min() >= 0
    assert integers.max() < 2**technique.bits
    return integers - zeros, steps.ravel()


@lru_cache
def program(name, technique):
    """(variables, images, levels) -> (effective variables, output of the layer)."""
    layer, chain = CASES[name].layer, build_chain((technique,))
    extra = (False,) if isinstance(layer, ConvNorm) else ()

    def run(variables, x, levels):
        _, observed = layer.apply(variables, x, *extra, mutable=["quant"])
        variables = {name: {"layer": node} for name, node in ({**variables, **observed}).items()}
        effective = chain.apply(variables, chain.init(KEY, variables, levels))
        inner = {name: node["layer"] for name, node in effective.items()}
        return inner, layer.apply(inner, x, *extra)

    return jax.jit(run)


def simulate(name, technique, seed):
    """(effective variables, input, float output) of a layer with random numbers."""
    layer, image, _ = CASES[name]
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(3, *image)) + 0.5).astype(np.float32)
    extra = (False,) if isinstance(layer, ConvNorm) else ()
    shapes = jax.eval_shape(lambda x: layer.init(KEY, x, *extra), x)
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), dict(shapes))
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    run = program(name, replace(technique, bits=8, activation_bits=8))
    effective, y = jax.device_get(run(variables, x, (dict(technique.levels(0)),)))
    return effective, x, y


TINY = MODELS["tiny"](classes=5)
INT8 = Quantize(8, 8, bias_bits=32)
PER_TENSOR = Quantize(4, 8, bias_bits=32, granularity="tensor")
ASYMMETRIC = Quantize(6, 5, bias_bits=32, weights="asymmetric")
WHAT = [(name, replace(INT8, bits=bits)) for name in CASES for bits in (8, 4)]
WHAT += [(name, replace(INT8, bits=3, activation_bits=4)) for name in CASES]
WHAT += [("3x3", PER_TENSOR), ("3x3", ASYMMETRIC), ("depthwise", ASYMMETRIC), ("dense", ASYMMETRIC)]


@pytest.mark.parametrize(("name", "technique"), WHAT)
def test_every_layer_type_agrees_within_one_step_of_the_output_grid(name, technique):
    layer, _, top = CASES[name]
    for seed in range(3):
        effective, x, y = simulate(name, technique, seed)
        params, point = effective["params"], effective["quant"]
        norm = params.get("norm", {})
        params, point = params.get("conv", params), point.get("conv", point)
        integers, s_in = quantized_input(x, point)
        kernel, s_w = quantized_kernel(np.asarray(params["kernel"]), technique)
        offset = norm["bias"] if norm else params["bias"]
        bias = offset.astype(np.float64) / (s_in * s_w)
        np.testing.assert_allclose(bias, np.rint(bias), rtol=1e-6, atol=1e-3)
        bias = np.rint(bias).astype(np.int32)
        stride, groups = getattr(layer, "stride", 1), getattr(layer, "groups", 1)
        total = sums(integers, kernel, stride, groups) + bias
        assert total.dtype == np.int32

        # the simulation's output is the sum times its step: nothing but float32 rounding between
        scale = s_in * s_w
        np.testing.assert_allclose(y, total * scale.astype(np.float64), rtol=1e-4, atol=1e-4)

        # and behind relu or relu6, on the next layer's grid, they are at most one step apart
        active = np.clip(y, 0, top)
        step = np.float32(active.max() / (2**technique.activation_bits - 1))
        limit = int(np.rint(min(top, active.max()) / step))
        simulated = np.rint(active / step).astype(np.int64)
        for requantize in (floating_point, fixed_point):
            found = np.clip(requantize(total, scale / step), 0, limit)
            assert np.abs(found - simulated).max() <= 1
            assert np.mean(found != simulated) < 0.02
            assert len(np.unique(found)) > 4


@pytest.mark.parametrize("technique", [INT8, ASYMMETRIC], ids=lambda t: t.describe())
def test_a_residual_block_agrees_within_one_step(technique):
    """conv1 - relu - conv2, plus the block's float input, relu: every convolution in integers."""
    rng = np.random.default_rng(5)
    first = simulate("3x3", technique, 5)[2]
    left, right = np.maximum(first, 0), rng.normal(size=first.shape).astype(np.float32)
    lo, hi = np.float32(min(left.min(), 0)), left.max()
    point = {"lo": lo, "hi": hi, "bits": technique.activation_bits}
    integers, s_in = quantized_input(left, point)
    raw = rng.normal(size=(3, 3, 6, 6)).astype(np.float32)
    fake = numerics.fake_quant_symmetric(raw, numerics.symmetric_scale(raw, 8, (0, 1, 2)), 8)
    kernel, s_w = integer_weights(np.asarray(fake), 8, True)
    seen = numerics.fake_quant_affine(left, lo, hi, technique.activation_bits)
    layer = Conv(6, 3)
    simulated = np.maximum(np.asarray(layer.apply({"params": {"kernel": fake}}, seen)) + right, 0)
    exact = np.maximum(sums(integers, kernel, 1, 1) * (s_in * s_w.ravel()) + right, 0)
    step = simulated.max() / 255
    assert np.abs(np.rint(exact / step) - np.rint(simulated / step)).max() <= 1


@jax.jit
def run_network(variables, images, levels):
    """(effective variables, states, logits), calibrated on the images themselves."""
    variables |= TINY.apply(variables, images, mutable=["quant"])[1]
    chain = build_chain((INT8,), TINY)
    states = chain.init(KEY, variables, levels)
    effective = chain.apply(variables, states)
    return effective, states, TINY.apply(effective, images)


@pytest.mark.parametrize("requantize", [floating_point, fixed_point])
@pytest.mark.parametrize("bits", [(8, 8), (4, 6)])
def test_a_whole_network_in_integers(bits, requantize):
    """Convolution, convolution, mean, dense: predictions agree to a step of the logits."""
    technique = Quantize(*bits, bias_bits=32)
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(8, 8, 8, 3)).astype(np.float32)
    shapes = jax.eval_shape(TINY.init, KEY, images)
    variables = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), dict(shapes))
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    effective, states, simulated = jax.device_get(
        run_network(variables, images, (dict(technique.levels(0)),))
    )
    assert build_chain((INT8,)).check(effective, states) == []

    params, points = effective["params"], effective["quant"]
    x, s_in = quantized_input((images - 0.5) / 0.25, points["stem"]["conv"])
    for name, following, stride in (("stem", points["conv"]["conv"], 2), ("conv", None, 1)):
        kernel, s_w = quantized_kernel(np.asarray(params[name]["conv"]["kernel"]), technique)
        bias = np.rint(params[name]["norm"]["bias"] / (s_in * s_w)).astype(np.int32)
        total = sums(x, kernel, stride, 1) + bias
        if following:
            limit = 2**technique.activation_bits - 1
            step = np.float32(following["hi"]) / limit  # relu: the grid begins at 0
            assert following["lo"] == 0
            x, s_in = np.clip(requantize(total, s_in * s_w / step), 0, limit), step
            x = x.astype(np.int32)
    pooled = (np.maximum(total, 0) * (s_in * s_w)).mean((1, 2))
    x, s_head = quantized_input(pooled, points["head"])
    kernel, s_w = quantized_kernel(np.asarray(params["head"]["kernel"]), technique)
    logits = (x @ kernel + np.rint(params["head"]["bias"] / (s_head * s_w))) * (s_head * s_w)
    step = np.ptp(simulated) / (2**technique.activation_bits - 1)
    assert np.abs(logits - simulated).max() <= step
    np.testing.assert_array_equal(logits.argmax(-1), simulated.argmax(-1))
