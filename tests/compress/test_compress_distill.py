"""The distillation loss against numbers worked out by hand and known limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from rcm.compress.distill import distillation_loss, ensemble_logits


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


def test_two_teachers_by_hand():
    """(3/4, 1/4) and (1/4, 3/4) at T = 2 are, in the mean, uniform; (9/10, 1/10) and (1/2, 1/2)
    are (7/10, 3/10), which the mean of the logits is not: that is (3/4, 1/4)."""
    temperature = 2.0
    odds = lambda ratio: jnp.array([[temperature * math.log(ratio), 0.0]])  # noqa: E731
    both = [jnp.concatenate([odds(3), odds(9)]), jnp.concatenate([odds(1 / 3), odds(1)])]
    teacher = jax.nn.softmax(ensemble_logits(both, temperature) / temperature)
    np.testing.assert_allclose(teacher, [[0.5, 0.5], [0.7, 0.3]], rtol=1e-6)
    loss = distillation_loss(jnp.zeros((2, 2)), ensemble_logits(both, temperature), temperature)
    expected = [0, 4 * (0.7 * math.log(1.4) + 0.3 * math.log(0.6))]
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 4.0])
def test_an_ensemble_predicts_the_mean_of_softened_probabilities(temperature):
    members, t = [logits(i) * 20 for i in range(3)], temperature or 1.0
    expected = np.mean([np.exp(log_softmax(np.asarray(z, np.float64) / t, -1)) for z in members], 0)
    mean = ensemble_logits(members, temperature)
    np.testing.assert_allclose(jnp.exp(mean / t), expected, rtol=1e-4, atol=1e-7)
    assert ensemble_logits(members[:1], temperature) is members[0]
    alike = ensemble_logits([members[0]] * 3, temperature)
    np.testing.assert_allclose(
        distillation_loss(logits(3), alike, temperature),
        distillation_loss(logits(3), members[0], temperature),
        rtol=1e-5,
    )
