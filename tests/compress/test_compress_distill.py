"""Every kind of distillation against numbers worked out by hand and known limits."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from rcm.compress.distill import (
    DISTILLATIONS,
    Lesson,
    Seen,
    attention_loss,
    class_balanced_loss,
    decoupled_terms,
    distillation_loss,
    ensemble_logits,
    hint_loss,
    make_projection,
    same_size,
)
from rcm.config import Distill
from rcm.validation import validate_distillation


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


LABELS = jnp.array([0, 1, 2, 3, 4, 0])


def maps(seed, channels=3, side=4, batch=6):
    shape = (batch, side, side, channels)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_decoupled_terms_by_hand():
    """Teacher (1/2, 1/4, 1/4), student (1/5, 3/5, 1/5), label 0: splits (1/2, 1/2) and (1/5, 4/5),
    among the others (1/2, 1/2) and (3/4, 1/4)."""
    student, teacher = jnp.log(jnp.array([[1.0, 3, 1]])), jnp.log(jnp.array([[2.0, 1, 1]]))
    target, others = decoupled_terms(student, teacher, jnp.array([0]), 1.0)
    expected = 0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8)
    np.testing.assert_allclose(target, [expected], rtol=1e-5)
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    np.testing.assert_allclose(others, [expected], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_terms_add_up_to_hintons_loss(temperature):
    """Zhao et al. 2022, equation 6: KL = target + (1 - p) others, p the teacher's for the label."""
    target, others = decoupled_terms(logits(0), logits(1), LABELS, temperature)
    p = jax.nn.softmax(logits(1) / temperature)[jnp.arange(6), LABELS]
    whole = distillation_loss(logits(0), logits(1), temperature)
    np.testing.assert_allclose(target + (1 - p) * others, whole, rtol=1e-4)
    assert (others > 0).all()


def test_decoupled_gradient_is_finite_where_a_prediction_is_certain():
    sure = 80 * jax.nn.one_hot(LABELS, 5)
    terms = lambda z: sum(x.sum() for x in decoupled_terms(z, sure, LABELS, 1.0))  # noqa: E731
    for student in (logits(0), sure, -sure):
        assert np.isfinite(terms(student))
        assert np.isfinite(jax.grad(terms)(student)).all()


def test_class_balanced_by_hand():
    """Teacher (4/5, 1/5) times weights (1/2, 3/2) is (4/7, 3/7); the student says (1/2, 1/2)."""
    teacher, weight = jnp.log(jnp.array([[4.0, 1.0]])), jnp.array([0.5, 1.5])
    loss = class_balanced_loss(jnp.zeros((1, 2)), teacher, weight, 1.0)
    expected = 4 / 7 * math.log(8 / 7) + 3 / 7 * math.log(6 / 7)
    np.testing.assert_allclose(loss, [expected], rtol=1e-4)


def test_class_balanced_with_equal_weights_is_hintons():
    for weight in (1.0, 0.3):
        loss = class_balanced_loss(logits(0), logits(1), jnp.full(5, weight), 2.0)
        np.testing.assert_allclose(loss, distillation_loss(logits(0), logits(1), 2.0), rtol=1e-4)


def test_attention_by_hand():
    """Maps over two positions, (1 + 2^2, 0) and (0, 9): unit vectors (1, 0) and (0, 1)."""
    student = jnp.array([[1.0, -2.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
    teacher = jnp.array([[0.0], [3.0]]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(attention_loss([student], [teacher]), [1.0], rtol=1e-6)
    twice = attention_loss([maps(9), student, student], [teacher, teacher])
    np.testing.assert_allclose(twice, [2.0], rtol=1e-6)  # matched from the last stage backwards


def test_attention_sees_neither_scale_nor_the_order_or_sign_of_channels():
    student, teacher = [maps(0), maps(1)], [maps(2), maps(3, channels=5)]
    loss = attention_loss(student, teacher)
    changed = [-7 * student[0][..., ::-1], 0.1 * student[1]]
    np.testing.assert_allclose(attention_loss(changed, teacher), loss, rtol=1e-4)
    np.testing.assert_array_equal(attention_loss(student, student), np.zeros(6))
    assert (loss > 1e-3).all()


def test_maps_of_different_size_meet_on_the_smaller_grid():
    """Blocks of 2 x 2 average to the small map; 6 does not divide into 4 and is interpolated."""
    small = maps(0)
    large = jnp.repeat(jnp.repeat(small, 2, axis=1), 2, axis=2)
    pooled = same_size(small, large)
    np.testing.assert_allclose(pooled[1], small, rtol=1e-6)
    np.testing.assert_allclose(attention_loss([large], [small]), np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(hint_loss([large], [small]), np.zeros(6), atol=1e-6)
    odd = same_size(jnp.ones((1, 6, 6)), jnp.ones((1, 4, 4)))
    np.testing.assert_allclose(odd[0], odd[1], rtol=1e-6)


def test_hints_by_hand_and_of_equal_networks():
    """The middle of three stages: mean of (2 - 1)^2 and (1 - 1)^2 after the projection 2 x + b."""
    student = [maps(0), jnp.array([[[[1.0], [0.5]]]]), maps(1)]
    teacher = [maps(2), jnp.ones((1, 1, 2, 1)), maps(3)]
    projection = {"weight": jnp.full((1, 1), 2.0), "bias": jnp.zeros(1)}
    np.testing.assert_allclose(hint_loss(student, teacher, projection), [0.5], rtol=1e-6)
    np.testing.assert_array_equal(hint_loss(student, student), [0.0])
    identity = {"weight": jnp.eye(3), "bias": jnp.zeros(3)}
    np.testing.assert_array_equal(hint_loss([maps(0)], [maps(0)], identity), np.zeros(6))


def test_a_projection_exists_where_widths_differ_and_has_no_kernel():
    key = jax.random.key(0)
    assert make_projection(key, 4, 4) is None
    made = make_projection(key, 4, 6)
    assert {name: leaf.shape for name, leaf in made.items()} == {"weight": (4, 6), "bias": (6,)}


CONSTANTS = {
    "hinton": None,
    "decoupled": {"alpha": 1.0, "beta": 8.0},
    "class_balanced": {"class_weight": jnp.linspace(0.5, 1.5, 5)},
    "attention": {"strength": 1000.0},
    "features": {"strength": 100.0},
}


@pytest.mark.parametrize("kind", DISTILLATIONS)
def test_every_kind_teaches_the_student_and_only_the_student(kind):
    """A loss for each example; finite gradients lead the student down, the teacher gets none."""
    student = Seen(logits(0), (maps(0), maps(1)))
    teacher = Seen(logits(1), (maps(2, side=8), maps(3)))
    projection = {"weight": jnp.eye(3), "bias": jnp.ones(3)} if kind == "features" else None

    @jax.jit
    def each(student, teacher):
        lesson = Lesson(student, teacher, LABELS, 2.0, CONSTANTS[kind], projection)
        return DISTILLATIONS[kind](lesson)

    loss = each(student, teacher)
    assert (loss.shape, loss.dtype) == ((6,), jnp.float32)
    ours, theirs = jax.grad(lambda s, t: each(s, t).mean(), argnums=(0, 1))(student, teacher)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(theirs))
    size = sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(ours))
    assert np.isfinite(size)
    assert size > 0
    stepped = jax.tree.map(lambda x, g: x - 0.01 * g / math.sqrt(size), student, ours)
    assert each(stepped, teacher).mean() < loss.mean()


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (Distill(kind="atention"), "did you mean 'attention'"),
        (Distill(beta=-1.0), "beta must not be negative"),
        (Distill(hint=-1.0), "hint must not be negative"),
    ],
)
def test_bad_kinds_and_constants_are_refused(step, sentence):
    with pytest.raises(ValueError, match=sentence):
        validate_distillation("p", step)


def test_the_published_constants():
    """Zhao et al. 2022; Zagoruyko & Komodakis 2017; Tian et al. 2020 for hints."""
    step = Distill()
    assert (step.alpha, step.beta, step.attention, step.hint) == (1, 8, 1000, 100)


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
