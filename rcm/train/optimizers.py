"""Learning-rate schedules as host arrays, and optimizers whose rate and decay are traced numbers.

An optimizer is two pure functions for one member, built from optax's pieces; a schedule is an
array that the caller indexes by step, so a sweep over rates compiles nothing anew.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rcm import config

SCHEDULES = ("constant", "step", "cosine", "onecycle")
STEP_MILESTONES = ((0.8, 0.01), (0.9, 0.0001))  # epochs 160 and 180 of 200, times the base rate
ONECYCLE_RISE = 0.3
ONECYCLE_START = 1 / 25
ONECYCLE_END = 1 / 250_000

ADAM_B2, ADAM_EPSILON = 0.999, 1e-8


class Optimizer(NamedTuple):
    """init(params) -> state; step(grads, state, params, learning_rate, weight_decay) ->
    (params, state). Both rates are traced float32 scalars."""

    init: Callable[[Any], Any]
    step: Callable[[Any, Any, Any, Array | float, Array | float], tuple[Any, Any]]


def learning_rates(
    schedule: str,
    base: float,
    steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    milestones: Sequence[tuple[float, float]] = STEP_MILESTONES,
) -> np.ndarray:
    """Learning rate of each step, float32 [steps].

    constant; step: `base` times a factor from a share of all steps on (`milestones`: pairs share,
    factor); cosine: half a cosine from the end of the warm-up to 0 (Loshchilov & Hutter 2017,
    1608.03983); onecycle: a cosine from base/25 up to base and one down to base/250,000 (Smith
    2018, 1803.09820).

    The warm-up is linear, the first step at base / w, step w - 1 at base, w = warmup_epochs *
    steps_per_epoch; onecycle's own rise takes its place (w steps long, or 30 % of all for w = 0).
    A run shorter than its warm-up ends in it. Raises ValueError for another schedule, steps < 1,
    or negative warmup_epochs.
    """
    config.choose("schedule", schedule, SCHEDULES)
    config.require(
        steps >= 1 and steps_per_epoch >= 1 and warmup_epochs >= 0,
        "steps and steps_per_epoch must be at least 1 and warmup_epochs at least 0, "
        f"got {steps}, {steps_per_epoch}, {warmup_epochs}.",
    )
    warmup = round(warmup_epochs * steps_per_epoch)
    step = np.arange(steps, dtype=np.float64)
    ramp = np.minimum((step + 1) / max(warmup, 1), 1)
    if schedule == "step":
        ramp = ramp * _factors(step, milestones)
    elif schedule == "cosine":
        ramp = ramp * _half_cosine(step, warmup, steps)
    elif schedule == "onecycle":
        ramp = _onecycle(step, warmup or round(ONECYCLE_RISE * steps))
    return (base * ramp).astype(np.float32)


def _factors(step: np.ndarray, milestones: Sequence[tuple[float, float]]) -> np.ndarray:
    factors = np.ones(len(step))
    for share, factor in sorted(milestones):
        factors[round(share * len(step)) :] = factor
    return factors


def _half_cosine(step: np.ndarray, start: int, end: int) -> np.ndarray:
    """1 up to `start`, then half a cosine down to 0 at `end`."""
    progress = np.clip((step - start) / max(end - start, 1), 0, 1)
    return (1 + np.cos(np.pi * progress)) / 2


def _onecycle(step: np.ndarray, rise: int) -> np.ndarray:
    up = 1 - (1 - ONECYCLE_START) * _half_cosine(step, 0, rise)
    down = ONECYCLE_END + (1 - ONECYCLE_END) * _half_cosine(step, rise, len(step))
    return np.where(step < rise, up, down)


def make_optimizer(
    kind: str, momentum: float = 0.9, clip_norm: float = 0.0, decay_norms: bool = True
) -> Optimizer:
    """The optimizer of that kind, with rates that stay traced.

    "sgd": Nesterov momentum, weight decay as L2 in the gradient (as PyTorch's SGD). "adamw":
    decoupled weight decay (Loshchilov & Hutter 2019, 1711.05101), `momentum` is its b1.

    clip_norm: largest global norm of the loss's gradient, before any decay; 0 turns it off.
    decay_norms=False decays only leaves named `kernel`, not biases and norms' scales.
    Raises ValueError for another kind, momentum outside [0, 1), or clip_norm < 0.
    """
    config.choose("optimizer", kind, DIRECTIONS)
    config.require(
        0 <= momentum < 1 and clip_norm >= 0,
        f"momentum must be in [0, 1) and clip_norm 0 (off) or more, got {momentum}, {clip_norm}.",
    )
    direction = DIRECTIONS[kind](momentum)
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity()

    def step(grads, state, params, learning_rate, weight_decay):
        grads, _ = clip.update(grads, clip.init(params), params)
        if kind == "sgd":
            grads = _add_decay(grads, params, weight_decay, decay_norms)
        updates, state = direction.update(grads, state, params)
        if kind == "adamw":
            updates = _add_decay(updates, params, weight_decay, decay_norms)
        return jax.tree.map(lambda p, u: p - learning_rate * u, params, updates), state

    return Optimizer(direction.init, step)


def _sgd(momentum: float) -> optax.GradientTransformation:
    return optax.trace(decay=momentum, nesterov=True)


def _adam(momentum: float) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=momentum, b2=ADAM_B2, eps=ADAM_EPSILON)


DIRECTIONS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adamw": _adam,
}


def _add_decay(updates: Any, params: Any, weight_decay: Array | float, everywhere: bool) -> Any:
    def visit(path, update, param):
        decays = everywhere or path[-1].key == "kernel"
        return update + jnp.asarray(weight_decay, param.dtype) * param if decays else update

    return jax.tree.map_with_path(visit, updates, params)
