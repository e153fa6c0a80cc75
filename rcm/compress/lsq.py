"""Learned step sizes: the steps of grids are trained (LSQ, Esser et al. 2020, arXiv 1902.08153).

The derivative of a quantized v by its step s is round(v / s) - v / s inside the range and the bound
of the range outside (equation 3), and by v it is 1 inside and 0 outside (equation 5): those of
`numerics.fake_quant_symmetric` and `fake_quant_affine` as they stand. Where the range ends is ours:
inside is what rounds to an integer of the grid, half a step further than in the paper, because by
the bound below the largest weight is often q steps, and float32 rounding would decide on which side
of the paper's end. With the squared error of normal weights as the loss a step settles 12 % below
the paper's at 2 bits and 1.5 % at 4 bits, with at most 0.4 % more error. The derivative by s is
multiplied by 1 / sqrt(N q), N values that share the step and q their largest integer (section 2.2),
and the step moves by SGD with momentum at the stage's learning rate, without weight decay.

Weights begin at 2 mean |w| / sqrt(q) as in the paper, activations at the steps of their calibrated
ranges, whose zero points stay. Two bounds are ours. A step at most halves in one update, so that it
stays positive. And the step of weights is at most max |w| / q: beyond, a grid is coarser than need
be and its ends are unused; so the largest weight is always q steps, and the integers can be read
off a kernel as off any other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rcm import numerics
from rcm.compress.base import Info, Variables, kernels, map_points
from rcm.compress.weight_grids import Grid, step_of

MOMENTUM = 0.9


class Step(NamedTuple):
    """A learned step, float32, and its momentum: of a kernel [1, .., C] or [1, .., 1], of a layer's
    input a scalar, with its zero point (float32, 0 for kernels)."""

    size: Array
    momentum: Array
    zero: Array


Steps = dict[str, Step]


def begin(variables: Variables, bits: Callable, grid: Grid) -> tuple[Steps, Steps]:
    """The steps of all kernels and of all quantization points; bits(name, kind) are their widths,
    kind `bits` or `activation_bits`."""
    weights = {
        name: weight_step(kernel, bits(name, "bits"), grid)
        for name, kernel in kernels(variables["params"]).items()
    }
    points: Steps = {}

    def visit(name: str, node: Any) -> None:
        points[name] = input_step(node["lo"], node["hi"], bits(name, "activation_bits"))

    map_points(visit, variables.get("quant", {}))
    return weights, points


def learn(
    weights: Steps, points: Steps, params: Any, info: Info, bits: Callable, grid: Grid
) -> tuple[Steps, Steps]:
    """All steps after one update; params: what the optimizer and earlier techniques have left.

    The kernels of `info.before` stand for what the earlier techniques made of them, which their
    own updates have imposed on the parameters.
    """
    before, grads, after = (kernels(tree) for tree in (info.before, info.grads, params))
    rate, points = info.learning_rate, dict(points)
    weights = {
        name: move_weight_step(
            step, before[name], after[name], grads[name], bits(name, "bits"), rate, grid
        )
        for name, step in weights.items()
    }

    def visit(name: str, gradients: Any) -> None:
        width = bits(name, "activation_bits")
        points[name] = move_input_step(points[name], gradients, width, rate)

    map_points(visit, info.quant_grads or {})
    return weights, points


def weight_step(kernel: Array, bits: Array, grid: Grid) -> Step:
    """Where the step of a kernel begins."""
    axes = tuple(range(kernel.ndim - 1)) if grid.per_channel else None
    size = 2 * jnp.abs(kernel).mean(axes, keepdims=True) / jnp.sqrt(_limit(bits))
    size = within(jnp.where(size > 0, size, 1), kernel, bits, grid)
    return Step(size, jnp.zeros_like(size), jnp.zeros_like(size))


def input_step(lo: Array, hi: Array, bits: Array) -> Step:
    """Where the step of a layer's input begins: at that of its calibrated range."""
    size, zero = numerics.affine_grid(lo, hi, bits)
    return Step(size, jnp.zeros_like(size), zero)


def within(size: Array, kernel: Array, bits: Array, grid: Grid) -> Array:
    """Steps of which the largest weight takes up q or more."""
    return jnp.minimum(size, step_of(kernel, bits, grid))


def range_of(step: Step, bits: Array) -> tuple[Array, Array]:
    """(lo, hi) of a layer's input."""
    return -step.zero * step.size, (numerics.unsigned_limit(bits) - step.zero) * step.size


def move_weight_step(
    step: Step, before: Array, after: Array, gradient: Array, bits: Array, rate: Array, grid: Grid
) -> Step:
    """The step after one update; gradient: of the loss by the quantized kernel. before and after:
    the kernel when the gradient was taken, and now."""
    size = within(step.size, before, bits, grid)
    _, pull_back = jax.vjp(lambda s: numerics.fake_quant_symmetric(before, s, bits), size)
    shared = before.size / size.size
    slope = pull_back(gradient)[0] / jnp.sqrt(shared * _limit(bits))
    moved = _move(step, slope, rate)
    return moved._replace(size=within(moved.size, after, bits, grid))


def move_input_step(step: Step, gradients: Any, bits: Array, rate: Array) -> Step:
    """The step after one update; gradients: of the loss by `lo` and `hi` of the quantization point,
    which the layer has scaled."""
    lo, hi = gradients["lo"], gradients["hi"]
    slope = -step.zero * lo + (numerics.unsigned_limit(bits) - step.zero) * hi
    return _move(step, slope, rate)


def _move(step: Step, slope: Array, rate: Array) -> Step:
    momentum = MOMENTUM * step.momentum + slope
    size = jnp.maximum(step.size - rate * momentum, step.size / 2)
    return step._replace(size=size, momentum=momentum)


def _limit(bits: Array) -> Array:
    return jnp.maximum(numerics.signed_limit(bits), 1)
