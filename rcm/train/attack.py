"""One member under attack: the images that are made against it, and what is answered to them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rcm.data.augment import to_float
from rcm.shift.attacks import ATTACKS, zero_gradients
from rcm.shift.ball import Budget, distance
from rcm.train.fit import Program, effective_variables, parts_of
from rcm.train.step import TrainState


def attack(
    program: Program,
    source: Program | None,
    name: str,
    norm: str,
    key: Array,
    images: Array,
    labels: Array,
    ids: Array,
    numbers: tuple[Array, Array, Array, Array],
    states: tuple[TrainState, ...],
) -> tuple[Array, Array, Array]:
    """(logits float32 [B, classes] of the attacked images, share of zero gradients by the clean
    images' pixels [B], how far an image lies outside of its ball or of [0, 1], over eps, [B]).

    images: uint8 [B, H, W, 3]; ids: int32 [B], which alone decide an image's randomness; numbers:
    eps (of images in [0, 1]), steps, step size and restarts; states: of the member and, if there is
    a source, of the one that is attacked in its place. Weights are compressed once, and gradients
    go straight through the quantization of activations.
    """
    answer = _answer(program, states[0])
    attacked = _answer(source, states[1]) if source else answer
    clean = to_float(images)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, ids)
    eps, steps, step_size, restarts = numbers
    budget = Budget(eps, steps, step_size, norm, restarts)
    made = ATTACKS[name](attacked, clean, labels, keys, budget)
    beyond = 2 * jnp.abs(made - 0.5).max((1, 2, 3)) - 1
    outside = jnp.maximum(distance(made, clean, norm) / eps - 1, beyond)
    outside = jnp.where(states[-1].alive, outside, 0)  # nobody reads what a diverged one answers
    return answer(made), zero_gradients(attacked, clean, labels), outside


def _answer(program: Program, state: TrainState) -> Callable[[Array], Array]:
    """float32 images [B, H, W, 3] in [0, 1] -> logits, the weights compressed once."""
    variables, model = effective_variables(program, state), parts_of(program).model
    return lambda images: model.apply(variables, images)
