"""What all attacks share: the ball around an image, its steps, and which image is the better."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Logits = Callable[[Array], Array]
TINY = 1e-12


class Budget(NamedTuple):
    """eps: radius, float32, of images in [0, 1]; steps: gradients or queries, int32; step_size:
    over eps, float32; norm: "linf" or "l2"; restarts: int32."""

    eps: Array | float
    steps: Array | int = 10
    step_size: Array | float = 0.25
    norm: str = "linf"
    restarts: Array | int = 1


class Found(NamedTuple):
    """The best adversarial images so far, and their margins [B]: negative where the model errs."""

    images: Array
    margin: Array


def margin(logits: Array, labels: Array) -> Array:
    """The true class's logit minus the largest other one, [B]; at most 0 where the model errs."""
    true, others = split(logits, labels)
    return true - others.max(-1)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """[B], natural logarithm."""
    true = jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]
    return jax.nn.logsumexp(logits, -1) - true


def project(moved: Array, images: Array, budget: Budget) -> Array:
    """The nearest images in the ball, then in [0, 1]."""
    change = moved - images
    if budget.norm == "linf":
        change = jnp.clip(change, -budget.eps, budget.eps)
    else:
        change = change * jnp.minimum(1, budget.eps / jnp.maximum(length(change), TINY))
    return jnp.clip(images + change, 0, 1)


def distance(moved: Array, images: Array, norm: str) -> Array:
    """[B], how far images were moved."""
    change = moved - images
    if norm == "linf":
        return jnp.abs(change).max((1, 2, 3))
    return length(change)[:, 0, 0, 0]


def random_start(keys: Array, images: Array, budget: Budget) -> Array:
    """Uniform in the ball, cut to [0, 1]."""
    shape = images.shape[1:]
    if budget.norm == "linf":
        draw = jax.vmap(lambda key: jax.random.uniform(key, shape, minval=-1, maxval=1))
        change = budget.eps * draw(keys)
    else:
        draw = jax.vmap(lambda key: jax.random.ball(key, images[0].size).reshape(shape))
        change = budget.eps * draw(keys)
    return project(images + change, images, budget)


def better(old: Found, new: Found, settle: bool = False) -> Found:
    """Image by image the one with the smaller margin; with `settle` what fools is kept."""
    better = new.margin < old.margin
    better = better & (old.margin > 0) if settle else better
    return Found(
        jnp.where(wide(better), new.images, old.images),
        jnp.where(better, new.margin, old.margin),
    )


def split(logits: Array, labels: Array) -> tuple[Array, Array]:
    """The true class's logit [B], and the logits [B, K] with it at minus infinity."""
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.where(true, logits, 0).sum(-1), jnp.where(true, -jnp.inf, logits)


def gradient_of(logits: Logits, images: Array, loss: Callable[[Array], Array]) -> Array:
    return jax.grad(lambda x: loss(logits(x)).sum())(images)


def direction(gradient: Array, norm: str) -> Array:
    """The step of length 1 that raises the loss most."""
    if norm == "linf":
        return jnp.sign(gradient)
    return gradient / jnp.maximum(length(gradient), TINY)


def length(x: Array) -> Array:
    return jnp.sqrt(jnp.square(x).sum((1, 2, 3), keepdims=True))


def wide(x: Array) -> Array:
    return x[:, None, None, None]


def fold(keys: Array, i: Array | int) -> Array:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, i)
