"""The distillation loss against numbers worked out by hand and known limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from rcm.compress.distill import distillation_loss


def logits(seed, shape=(6, 5)):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * 3, jnp.float32)


def test_two_classes_by_hand():
    """Teacher (3/4, 1/4), student (1/2, 1/2): KL = log 2 - H(1/4), times T^2."""
    for temperature in (1.0, 2.0, 5.0):
        teacher = jnp.array([[math.log(3) * temperature, 0.0]])
        kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
        loss = distillation_loss(jnp.zeros((1, 2)), teacher, temperature)
        np.testing.assert_allclose(loss, [temperature**2 * kl], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1, 2, 5])
def test_closed_form_in_float64(temperature):
    student, teacher = (np.asarray(logits(i), np.float64) / temperature for i in (0, 1))
    s, t = log_softmax(student, axis=-1), log_softmax(teacher, axis=-1)
    expected = temperature**2 * (np.exp(t) * (t - s)).sum(-1)
    np.testing.assert_allclose(
        distillation_loss(logits(0), logits(1), temperature), expected, rtol=1e-5
    )


def test_an_example_has_its_own_loss_which_is_zero_only_for_equal_predictions():
    loss = distillation_loss(logits(0).at[2].set(logits(1)[2] + 7), logits(1), 3.0)
    assert loss.shape == (6,)
    assert loss.dtype == jnp.float32
    assert abs(loss[2]) < 1e-5
    assert (jnp.delete(loss, 2) > 1e-3).all()


def test_gradient_is_t_times_the_difference_of_softened_predictions():
    """d/dz T^2 KL = T (softmax(z/T) - softmax(v/T)), Hinton et al. 2015, equation 2."""
    student, teacher, temperature = logits(0), logits(1), 4.0
    gradient = jax.grad(lambda z: distillation_loss(z, teacher, temperature).sum())(student)
    expected = jax.nn.softmax(student / temperature) - jax.nn.softmax(teacher / temperature)
    np.testing.assert_allclose(gradient, temperature * expected, atol=1e-5)


def test_the_teacher_gets_no_gradient():
    gradient = jax.grad(lambda v: distillation_loss(logits(0), v, 2.0).sum())(logits(1))
    np.testing.assert_array_equal(gradient, jnp.zeros((6, 5)))


def test_temperature_zero_and_half_precision_stay_finite():
    ours = distillation_loss(logits(0).astype(jnp.bfloat16), logits(1).astype(jnp.bfloat16), 0.0)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, distillation_loss(logits(0), logits(1), 1.0), rtol=0.05)
