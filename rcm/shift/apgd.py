"""Auto-PGD: projected gradient ascent that needs no step size (Croce & Hein 2020, 2003.01690).

Steps start at twice eps, carry momentum, and halve where a check finds that they stopped helping.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rcm.shift.ball import (
    TINY,
    Budget,
    Found,
    Logits,
    better,
    cross_entropy,
    direction,
    fold,
    margin,
    project,
    random_start,
    wide,
)

MOMENTUM, PATIENCE = 0.75, 0.75  # share of the new step, and of steps that must raise the loss
FIRST_CHECK, LESS, LEAST_CHECK = 0.22, 0.03, 0.06  # of the steps: between two checks
TARGETS = 9  # classes that the targeted form tries


def ratio(logits: Array, labels: Array) -> Array:
    """Difference of logits ratio (Croce & Hein 2020, section 4), [B]; three classes or more."""
    ordered = jnp.sort(logits, -1)
    return -margin(logits, labels) / (ordered[:, -1] - ordered[:, -3] + TINY)


def ratio_to(logits: Array, labels: Array, targets: Array) -> Array:
    """Its targeted form, towards classes int32 [B]; four classes or more."""
    ordered = jnp.sort(logits, -1)
    true, goal = (jnp.take_along_axis(logits, c[:, None], -1)[:, 0] for c in (labels, targets))
    scale = ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4])
    return -(true - goal) / (scale + TINY)


def apgd_ce(logits: Logits, images: Array, labels: Array, keys: Array, budget: Budget) -> Array:
    """`apgd` with the cross-entropy."""
    return apgd(logits, images, labels, keys, budget, cross_entropy)


def apgd_dlr(logits: Logits, images: Array, labels: Array, keys: Array, budget: Budget) -> Array:
    """`apgd` with the difference of logits ratio."""
    return apgd(logits, images, labels, keys, budget, ratio)


def apgd_targeted(
    logits: Logits, images: Array, labels: Array, keys: Array, budget: Budget
) -> Array:
    """`apgd` towards every other class in turn, the likeliest first, at most `TARGETS` of them."""
    clean = logits(images)
    true = jax.nn.one_hot(labels, clean.shape[-1], dtype=bool)
    order = jnp.argsort(-jnp.where(true, -jnp.inf, clean), -1)

    def towards(i: Array, found: Found) -> Found:
        targets = order[:, i]
        loss = lambda z, y: ratio_to(z, y, targets)  # noqa: E731
        x = apgd(logits, images, labels, fold(keys, i), budget, loss)
        return better(found, Found(x, margin(logits(x), labels)))

    start = Found(images, margin(clean, labels))
    return lax.fori_loop(0, min(TARGETS, clean.shape[-1] - 1), towards, start).images


class _Climb(NamedTuple):
    """apgd's state; all but the counters and the images are [B]."""

    x: Array
    before: Array  # the step before
    gradient: Array
    loss: Array
    step: Array
    best: Found
    top: Array  # the largest loss, where it was and the gradient there
    top_x: Array
    top_gradient: Array
    rises: Array  # since the last check
    top_checked: Array  # the largest loss at the last check
    halved: Array  # whether the step was halved there
    interval: Array
    waited: Array


def apgd(
    logits: Logits,
    images: Array,
    labels: Array,
    keys: Array,
    budget: Budget,
    loss: Callable[[Array, Array], Array],
) -> Array:
    """Ascent on `loss` [B] of (logits, labels); the step starts at 2 eps and halves by itself."""
    steps = jnp.asarray(budget.steps, jnp.float32)

    def look(x: Array) -> tuple[Array, Array, Array]:
        def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
            z = logits(x)
            each = loss(z, labels)
            return each.sum(), (each, margin(z, labels))

        (_, (each, distance)), gradient = jax.value_and_grad(total, has_aux=True)(x)
        return each, distance, gradient

    def climb(i: Array, state: _Climb) -> _Climb:
        step = wide(state.step)
        moved = state.x + step * direction(state.gradient, budget.norm)
        moved = project(moved, images, budget)
        share = jnp.where(i > 0, MOMENTUM, 1.0)
        drawn = state.x + share * (moved - state.x) + (1 - share) * (state.x - state.before)
        x = project(drawn, images, budget)
        each, distance, gradient = look(x)
        higher = each > state.top
        state = state._replace(
            x=x, before=state.x, gradient=gradient, loss=each,
            best=better(state.best, Found(x, distance)),
            top=jnp.maximum(each, state.top),
            top_x=jnp.where(wide(higher), x, state.top_x),
            top_gradient=jnp.where(wide(higher), gradient, state.top_gradient),
            rises=state.rises + (each > state.loss),
            waited=state.waited + 1,
        )  # fmt: skip
        return jax.tree.map(
            lambda now, then: jnp.where(state.waited >= state.interval, now, then),
            _checked(state, steps),
            state,
        )

    x = random_start(keys, images, budget)
    each, distance, gradient = look(x)
    nothing, eps = jnp.zeros_like(each), jnp.full_like(each, budget.eps)
    best = better(Found(images, margin(logits(images), labels)), Found(x, distance))
    first = jnp.maximum(jnp.floor(FIRST_CHECK * steps), 1)
    start = _Climb(
        x, x, gradient, each, 2 * eps, best, each, x, gradient, nothing, each,
        jnp.zeros_like(each, bool), first, jnp.zeros_like(first),
    )  # fmt: skip
    return lax.fori_loop(0, budget.steps, climb, start).best.images


def _checked(state: _Climb, steps: Array) -> _Climb:
    """Where the loss rose too seldom, or neither it nor the step changed since the last check, the
    step is halved and the climb goes on from the top."""
    stuck = state.rises < PATIENCE * state.waited
    stuck |= ~state.halved & (state.top <= state.top_checked)
    return state._replace(
        x=jnp.where(wide(stuck), state.top_x, state.x),
        gradient=jnp.where(wide(stuck), state.top_gradient, state.gradient),
        loss=jnp.where(stuck, state.top, state.loss),
        step=jnp.where(stuck, state.step / 2, state.step),
        rises=jnp.zeros_like(state.rises),
        top_checked=state.top,
        halved=stuck,
        interval=jnp.maximum(
            state.interval - jnp.maximum(jnp.floor(LESS * steps), 1),
            jnp.maximum(jnp.floor(LEAST_CHECK * steps), 1),
        ),
        waited=jnp.zeros_like(state.waited),
    )
