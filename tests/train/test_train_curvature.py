"""Curvature of a class's loss against the whole Hessian, gradient and probabilities of a tiny
network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from rcm import sweep
from rcm.models.convolution import plain_convolutions
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.curvature import TURNS, Curvature
from tests.engine import LOOP, POOL, lane, program, train

LABEL = 1


@pytest.fixture(scope="module")
def member():
    return train(LOOP, [lane(0)], POOL)[0]


@pytest.fixture(scope="module")
def images():
    return POOL.images[np.asarray(POOL.labels) == LABEL][:8]


def curvature(members, images, weights):
    """`Curvature` [lanes] after all turns, through the engine."""
    execution = Execution("loop", len(members), len(members), 1)
    start, turn = sweep.compiled_curvature(program(), execution)
    given = sweep.stack([(images, np.asarray(weights, np.float32), member) for member in members])
    images, weights, states = sweep.place(execution, given)
    vectors = start(states)
    for _ in range(TURNS - 1):
        _, vectors = turn(np.int32(LABEL), images, weights, states, vectors)
    return turn(np.int32(LABEL), images, weights, states, vectors)[0]


@pytest.fixture(scope="module")
def found(member, images):
    return Curvature(*(leaf[0] for leaf in curvature([member], images, np.ones(len(images)))))


@pytest.fixture(scope="module")
def loss_of(member, images):
    """The class's mean loss as a function of all parameters, and these."""
    flat, unravel = ravel_pytree(member.variables["params"])
    model = fit.parts_of(program()).model

    def loss_of(flat):
        logits = model.apply(
            {**member.variables, "params": unravel(flat)}, images / np.float32(255)
        )
        labels = jnp.full(len(images), LABEL)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return loss_of, flat


def test_the_eigenvalue_is_the_hessians_largest(found, loss_of):
    function, flat = loss_of
    with plain_convolutions():
        every = np.linalg.eigvalsh(np.asarray(jax.jit(jax.hessian(function))(flat), np.float64))
    largest = every[np.abs(every).argmax()]
    assert float(found.eigenvalue) == pytest.approx(largest, rel=1e-3)
    nearest = np.abs(every - float(found.eigenvalue)).min() / abs(largest)
    assert nearest <= float(found.residual) + 1e-6  # what the residual promises


def test_the_gradient_is_the_losss(found, loss_of):
    function, flat = loss_of
    expected = np.linalg.norm(jax.jit(jax.grad(function))(flat))
    assert float(found.gradient) == pytest.approx(expected, rel=1e-4)


def test_the_margin_is_that_of_the_predictions(found, member, images):
    p = np.asarray(jax.nn.softmax(fit.predict(program(), member, images)))
    margins = p[:, LABEL] - np.delete(p, LABEL, 1).max(1)
    assert float(found.margin) == pytest.approx(margins.mean(), abs=1e-6)


def test_filling_up_changes_nothing(found, member, images):
    filled = np.concatenate([images, POOL.images[:5]])
    again = curvature([member], filled, np.r_[np.ones(len(images)), np.zeros(5)])
    np.testing.assert_allclose([leaf[0] for leaf in again], found, rtol=1e-3, atol=1e-6)


def test_members_side_by_side_are_as_alone(found, member, images):
    """On two devices."""
    other = train(LOOP, [lane(1)], POOL)[0]
    both = curvature([member, other], images, np.ones(len(images)))
    np.testing.assert_allclose([leaf[0] for leaf in both], found, rtol=1e-3, atol=1e-6)
    assert float(both.gradient[1]) != pytest.approx(float(both.gradient[0]), rel=1e-2)
