"""Losses against hand-computed numbers, optax, and the definitions of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rcm import config
from rcm.compress.distill import distillation_loss
from rcm.train.losses import (
    LOSSES,
    LossHyper,
    adjusted,
    class_numbers,
    class_weights,
    cross_entropy,
    log_prior,
    margins,
    training_loss,
)

COUNTS = (5000, 500, 50)
LOGITS = jnp.array([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0], [-2.0, 0.1, 0.3], [1.0, 1.0, 1.0]])
LABELS = jnp.array([0, 2, 1, 2])


def hyper(**changes):
    plain = LossHyper(
        class_weight=jnp.ones(3),
        offset=jnp.zeros(3),
        smoothing=jnp.float32(0),
        mixing=jnp.float32(0),
        temperature=jnp.float32(1),
    )
    return plain._replace(**changes)


def test_cross_entropy_by_hand():
    """Logits log(1, 2, 5): probabilities 1/8, 2/8, 5/8."""
    logits = jnp.log(jnp.array([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1]), 0.0), [np.log(4)], rtol=1e-6)
    even = -(np.log(1 / 8) + np.log(2 / 8) + np.log(5 / 8)) / 3
    smoothed = 0.9 * np.log(4) + 0.1 * even
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1]), 0.1), [smoothed], rtol=1e-6)


def test_cross_entropy_is_optaxs():
    one_hot = optax.smooth_labels(jax.nn.one_hot(LABELS, 3), 0.2)
    expected = optax.softmax_cross_entropy(LOGITS, one_hot)
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, 0.2), expected, rtol=1e-6)


def test_cross_entropy_is_finite_and_float32_at_large_bfloat16_logits():
    loss = cross_entropy(jnp.array([[1e4, -1e4]], jnp.bfloat16), jnp.array([1]), 0.0)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, [2e4], rtol=1e-2)


def test_plain_hyper_is_plain_cross_entropy_to_the_bit():
    plain = jax.jit(lambda logits: -jax.nn.log_softmax(logits)[jnp.arange(4), LABELS].mean())
    ours = jax.jit(lambda logits, hyper: training_loss(logits, LABELS, hyper))
    assert ours(LOGITS, hyper()).tobytes() == plain(LOGITS).tobytes()
    np.testing.assert_array_equal(jax.grad(ours)(LOGITS, hyper()), jax.grad(plain)(LOGITS))


def test_class_balanced_weights():
    """n = 1 has effective number 1; large n approaches 1 / (1 - beta) = 2 (beta = 0.5)."""
    weights = class_weights([1, 60], "class_balanced", beta=0.5)
    np.testing.assert_allclose(weights, [4 / 3, 2 / 3], rtol=1e-6)
    assert weights.dtype == np.float32
    weights = class_weights(COUNTS, "class_balanced")
    np.testing.assert_allclose(weights.sum(), 3, rtol=1e-6)
    effective = (1 - 0.9999 ** np.array(COUNTS)) / (1 - 0.9999)
    np.testing.assert_allclose(weights * effective, (weights * effective)[0], rtol=1e-5)
    np.testing.assert_array_equal(class_weights((7, 7), "class_balanced"), [1, 1])
    np.testing.assert_array_equal(class_weights(COUNTS, "none"), [1, 1, 1])


def test_class_weight_multiplies_the_loss_of_its_label():
    each = np.asarray(cross_entropy(LOGITS, LABELS, 0.0))
    loss = training_loss(LOGITS, LABELS, hyper(class_weight=jnp.array([1.0, 2.0, 5.0])))
    np.testing.assert_allclose(loss, (each * [1, 5, 2, 5]).mean(), rtol=1e-6)


def test_log_prior_and_adjustment():
    prior = log_prior((6, 3, 1))
    np.testing.assert_allclose(np.exp(prior), [0.6, 0.3, 0.1], rtol=1e-6)
    there = adjusted(LOGITS, prior, 1.5)
    np.testing.assert_allclose(there - LOGITS, np.tile(1.5 * prior, (4, 1)), rtol=1e-5)
    np.testing.assert_allclose(adjusted(there, prior, -1.5), LOGITS, atol=1e-6)


def test_logit_adjusted_loss_is_the_balanced_softmax():
    """Ren et al. 2020: -log(n_y e^f_y / sum n_c e^f_c) for tau = 1."""
    offset, _ = LOSSES["logit_adjusted"](COUNTS, 1.0)
    odds = np.array(COUNTS)[None, :] * np.exp(np.asarray(LOGITS, np.float64))
    expected = -np.log(odds[np.arange(4), LABELS] / odds.sum(1)).mean()
    loss = training_loss(LOGITS, LABELS, hyper(offset=offset))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_adjusted_training_and_post_hoc_agree_on_a_model_of_the_posterior():
    """Scores of the true posterior, adjusted post hoc, rank classes by the likelihood alone."""
    likelihood = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    posterior = np.log(likelihood * np.array(COUNTS)[None, :])
    assert posterior.argmax(1).tolist() == [0, 0]
    assert adjusted(posterior, log_prior(COUNTS), -1.0).argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_numbers_of_one_program(name):
    offset, margin = LOSSES[name](COUNTS, 1.0)
    assert margin.shape == offset.shape == (3,)
    assert margin.dtype == offset.dtype == np.float32
    changed = hyper(offset=offset, margin=margin)
    gradient = jax.grad(training_loss)(LOGITS, LABELS, changed)
    assert np.isfinite(gradient).all()
    is_plain = np.array_equal(gradient, jax.grad(training_loss)(LOGITS, LABELS, hyper()))
    assert is_plain == (name == "cross_entropy")


def test_no_retrace_when_numbers_change():
    traces = []

    @jax.jit
    def loss(hyper):
        traces.append(1)
        return training_loss(LOGITS, LABELS, hyper, distilled(hyper))

    values = [loss(hyper(mixing=jnp.float32(m), temperature=jnp.float32(2))) for m in (0, 0.5, 1)]
    assert len(traces) == 1
    np.testing.assert_allclose(values[1], (values[0] + values[2]) / 2, rtol=1e-6)


def distilled(hyper):
    return distillation_loss(LOGITS, LOGITS[::-1], hyper.temperature)


def test_distillation_mixes_with_cross_entropy():
    """T^2 KL(teacher || student) at temperature T; the offset is the labels' loss's alone."""
    teacher = LOGITS[::-1]
    p = np.asarray(jax.nn.softmax(teacher / 2), np.float64)
    q = np.asarray(jax.nn.softmax(LOGITS / 2), np.float64)
    expected = 4 * (p * np.log(p / q)).sum(1).mean()
    changed = hyper(offset=jnp.array([0.0, 1.0, 2.0]), temperature=jnp.float32(2))
    labelled = training_loss(LOGITS, LABELS, changed)
    mixed = training_loss(
        LOGITS, LABELS, changed._replace(mixing=jnp.float32(0.7)), distilled(changed)
    )
    np.testing.assert_allclose(mixed, 0.7 * expected + 0.3 * labelled, rtol=1e-5)
    alone = training_loss(LOGITS, LABELS, changed._replace(mixing=jnp.float32(0.7)))
    np.testing.assert_array_equal(alone, labelled)


def test_margins_are_the_published_ones():
    """n^(-1/4), the rarest class's scaled to 0.5: CIFAR-10 at ratio 100, n from 5,000 to 50."""
    np.testing.assert_allclose(margins((16, 1, 81)), [0.25, 0.5, 0.5 / 3], rtol=1e-6)
    ends = margins((5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50))[[0, -1]]
    np.testing.assert_allclose(ends, [0.5 * 0.01**0.25, 0.5], rtol=1e-6)


def test_ldam_by_hand():
    """Cosines (0.6, 0.2) of label 0 with margin 0.1, s = 30: log(1 + e^(30 (0.2 - 0.5)))."""
    logits, margin = 30 * jnp.array([[0.6, 0.2]]), jnp.array([0.1, 0.5])
    given = LossHyper(jnp.ones(2), jnp.zeros(2), 0.0, 0.0, 1.0, margin=margin)
    loss = training_loss(logits, jnp.array([0]), given)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-9)), rtol=1e-3)
    loss = training_loss(logits, jnp.array([1]), given)
    np.testing.assert_allclose(loss, np.log1p(np.exp(27)), rtol=1e-6)


def test_ldam_grows_with_the_margin_and_leaves_other_labels_alone():
    zero, some = jnp.zeros(3), jnp.array([0.0, 0.0, 0.5])
    each = [
        np.array([training_loss(LOGITS[i : i + 1], LABELS[i : i + 1], hyper(margin=margin))
                  for i in range(4)])
        for margin in (zero, some)
    ]  # fmt: skip
    of_two = np.asarray(LABELS) == 2
    np.testing.assert_array_equal(each[0][~of_two], each[1][~of_two])
    assert (each[1][of_two] > each[0][of_two] + 10).all()


def test_zero_margins_are_plain_cross_entropy_to_the_bit():
    with_margin = hyper(margin=jnp.zeros(3))
    loss = jax.jit(lambda logits, hyper: training_loss(logits, LABELS, hyper))
    assert loss(LOGITS, with_margin).tobytes() == loss(LOGITS, hyper()).tobytes()
    gradients = [jax.grad(loss)(LOGITS, given) for given in (with_margin, hyper())]
    np.testing.assert_array_equal(*gradients)


def test_deferred_weights_hold_from_their_step_on():
    weight, traces = jnp.array([0.5, 1.0, 1.5]), []

    @jax.jit
    def loss(hyper, step):
        traces.append(1)
        return training_loss(LOGITS, LABELS, hyper, step=step)

    deferred = hyper(class_weight=weight, begin=jnp.int32(4))
    values = [loss(deferred, step) for step in (0, 3, 4, 9)]
    np.testing.assert_array_equal(values[:2], [training_loss(LOGITS, LABELS, hyper())] * 2)
    weighted = training_loss(LOGITS, LABELS, hyper(class_weight=weight))
    np.testing.assert_array_equal(values[2:], [weighted] * 2)
    assert len(traces) == 1


def test_a_recipes_numbers():
    """LDAM-DRW as published; margins only where cosines are."""
    recipe = config.Train(loss="ldam", weights="class_balanced", defer=0.8)
    numbers = class_numbers(recipe, COUNTS, 800, "cosine")
    assert numbers["begin"] == 800
    np.testing.assert_array_equal(numbers["margin"], margins(COUNTS))
    np.testing.assert_array_equal(numbers["class_weight"], class_weights(COUNTS, "class_balanced"))
    plain = class_numbers(config.Train(), COUNTS, 0, "linear")
    absent = {"margin": None, "begin": None, "constants": None}
    assert {name: plain[name] for name in absent} == absent
    zero = class_numbers(config.Train(), COUNTS, 0, "cosine")["margin"]
    np.testing.assert_array_equal(zero, np.zeros(3, np.float32))


def test_bad_counts_and_kinds_are_refused():
    with pytest.raises(ValueError, match="class_balanced"):
        class_weights(COUNTS, "class_balance")
    for counts in ((5, 0), (), ((1, 2), (3, 4))):
        with pytest.raises(ValueError, match="at least one image per class"):
            log_prior(counts)
