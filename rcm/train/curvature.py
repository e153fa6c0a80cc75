"""How the loss of one class lies around a trained member: what may foretell its harm.

Source: Tran, Fioretto, Kim and Naidu 2022 (arXiv 2205.13574) bound what pruning adds to the loss of
a group of samples by its gradient's norm times the distance that the parameters move, plus half the
largest eigenvalue of its Hessian times that distance squared (theorem 1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from rcm.data.augment import to_float
from rcm.models.convolution import plain_convolutions
from rcm.train.fit import Program, effective_variables, parts_of
from rcm.train.step import TrainState

TURNS = 30  # of power iteration, the one that gives the eigenvalue included


class Curvature(NamedTuple):
    """Of one class's mean cross entropy in inference mode, float32 scalars.

    margin: mean over its images of p(class) minus the largest other p; gradient: norm of the
    gradient by all parameters; eigenvalue: of the Hessian, the largest in magnitude, with its sign;
    residual: |H v - eigenvalue v| / |eigenvalue| of the unit vector v that was found, 0 for an
    eigenvector: some eigenvalue lies within that share of the one given.
    """

    margin: Array
    gradient: Array
    eigenvalue: Array
    residual: Array


def start(program: Program, state: TrainState) -> Array:
    """The random vector float32 [parameters] with which power iteration begins."""
    flat, _ = ravel_pytree(effective_variables(program, state)["params"])
    return jax.random.normal(jax.random.key(0), flat.shape)


def turn(
    program: Program,
    label: Array,
    images: Array,
    weights: Array,
    state: TrainState,
    vector: Array,
) -> tuple[Curvature, Array]:
    """What the images of one class say of a member that is not compressed, and the next vector
    [parameters] of power iteration: the Hessian times this one.

    label: int32 scalar; images: uint8 [n, H, W, 3]; weights: float32 [n], 0 for those that only
    fill up the batch. One turn a call, because convolutions inside a loop are a hundred times
    slower on CPU.
    """
    variables, model = effective_variables(program, state), parts_of(program).model
    flat, unravel = ravel_pytree(variables["params"])
    shown, weights = to_float(images), weights / weights.sum()

    def loss_of(flat: Array) -> tuple[Array, Array]:
        logits = model.apply({**variables, "params": unravel(flat)}, shown)
        labels = jnp.broadcast_to(label, weights.shape)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return (weights * losses).sum(), logits

    unit = vector / _positive(jnp.linalg.norm(vector))
    with plain_convolutions():  # the CPU's own have no second derivatives
        gradient, product, logits = jax.jvp(
            jax.grad(loss_of, has_aux=True), (flat,), (unit,), has_aux=True
        )
    eigenvalue = unit @ product
    residual = jnp.linalg.norm(product - eigenvalue * unit) / _positive(jnp.abs(eigenvalue))
    p = jax.nn.softmax(logits)
    margin = (weights * (p[:, label] - p.at[:, label].set(0).max(1))).sum()
    return Curvature(margin, jnp.linalg.norm(gradient), eigenvalue, residual), product


def _positive(value: Array) -> Array:
    return jnp.maximum(value, jnp.finfo(value.dtype).tiny)
