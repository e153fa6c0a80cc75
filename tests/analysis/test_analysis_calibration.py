"""Calibration errors and proper scores by hand and by their definitions."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from rcm.analysis.calibration import (
    brier,
    calibration_errors,
    classwise_calibration_error,
    nll,
    reliability,
    softmax,
)

RIGHT, WRONG = 0, 1  # answers to images of class 0


def errors(answers, confidence, bins=15):
    """(equal width, equal mass)."""
    answers = np.asarray(answers)
    return calibration_errors(np.zeros(answers.size, int), answers, np.log(confidence), bins)


def test_bins_of_equal_width_by_hand():
    """Confidences .95 (right, wrong) and .5 (right) lie in two bins of 15."""
    width, _ = errors([RIGHT, WRONG, RIGHT], [0.95, 0.95, 0.5])
    assert width == pytest.approx(2 / 3 * abs(0.5 - 0.95) + 1 / 3 * abs(1 - 0.5))


def test_bins_of_a_reliability_diagram():
    """They are those of scikit-learn, and the calibration error is the sum of their gaps."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 500)
    answers = rng.integers(0, 2, 500)
    found = reliability(np.zeros(500, int), answers, np.log(confidence))
    accuracy, mean = calibration_curve(answers == RIGHT, confidence, n_bins=15)
    filled = np.isfinite(found["bin_count"])
    assert filled.tolist() == [False] * 4 + [True] * 11
    np.testing.assert_allclose(found["bin_accuracy"][filled], accuracy)
    np.testing.assert_allclose(found["bin_confidence"][filled], mean)
    gaps = found["bin_count"] * np.abs(found["bin_accuracy"] - found["bin_confidence"])
    assert np.nansum(gaps) / 500 == pytest.approx(errors(answers, confidence)[0])
    assert np.isnan(found["bin_accuracy"][~filled]).all()


def test_bins_at_the_ends_and_without_a_confidence():
    labels = np.zeros(3, int)
    ends = reliability(labels, labels, np.array([-np.inf, 0.0, 1e-4]))
    assert ends["bin_count"][[0, -1]].tolist() == [1, 2]
    assert np.isnan(ends["bin_count"][1:-1]).all()
    for values in reliability(labels, labels, np.array([0.0, np.nan, 0.0])).values():
        assert values.shape == (15,)
        assert np.isnan(values).all()


def test_bins_of_equal_mass_by_hand():
    """By rank {.9 wrong, .8 right} and {.6 right, .3 wrong}: both halves of (0, 1] hold others."""
    width, mass = errors([WRONG, RIGHT, RIGHT, WRONG], [0.9, 0.8, 0.6, 0.3], bins=2)
    assert mass == pytest.approx(abs(1 - 1.7) / 4 + abs(1 - 0.9) / 4)
    assert width == pytest.approx(abs(2 - 2.3) / 4 + abs(0 - 0.3) / 4)


def test_bins_of_equal_mass_equal_a_division_of_the_sorted_images():
    rng = np.random.default_rng(0)
    confidence = rng.permutation(np.exp(np.linspace(-1.5, -0.02, 300).astype(np.float16)))
    answers = rng.integers(0, 2, 300)
    surplus = (answers == RIGHT) - confidence
    parts = np.array_split(surplus[np.argsort(confidence)], 15)
    _, mass = errors(answers, confidence)
    assert mass == pytest.approx(sum(abs(part.sum()) for part in parts) / 300, abs=1e-6)


def test_equal_confidences_are_shared_out_whatever_their_order():
    """A bin holds 1.5 of three equal images, two of them right: .5 of surplus each, twice."""
    orders = ([RIGHT, RIGHT, WRONG], [RIGHT, WRONG, RIGHT], [WRONG, RIGHT, RIGHT])
    for answers in orders:
        _, mass = errors(answers, [0.5, 0.5, 0.5], bins=2)
        assert mass == pytest.approx(2 * 0.25 / 3)


def test_a_calibrated_model_has_small_errors():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 20_000)
    wrong = (rng.random(20_000) > confidence).astype(int)
    calibrated = errors(wrong, confidence)
    overconfident = errors(wrong, np.minimum(1, confidence + 0.2))
    assert max(calibrated) < 0.02 < 0.1 < min(overconfident)


def test_full_confidence_falls_into_the_last_bin():
    assert errors([RIGHT] * 4, np.ones(4)) == (0, 0)


def test_the_classwise_error_by_hand():
    """Two bins. Class 0: {.8, .6} hold one image of it, {.3} none; class 1: {.2, .4} one, {.7}
    one."""
    p = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    by_class = (abs(1 - 1.4) + abs(0 - 0.3), abs(1 - 0.6) + abs(1 - 0.7))
    error = classwise_calibration_error(np.array([0, 1, 1]), p, bins=2)
    assert error == pytest.approx(sum(by_class) / 3 / 2)


def test_the_classwise_error_equals_its_definition():
    rng = np.random.default_rng(1)
    p, true = rng.dirichlet(np.full(4, 0.3), 500), rng.integers(0, 4, 500)
    expected = 0.0
    for c in range(4):
        for k in range(15):
            inside = (p[:, c] > k / 15) & (p[:, c] <= (k + 1) / 15)
            if inside.any():
                gap = (true[inside] == c).mean() - p[inside, c].mean()
                expected += inside.mean() * abs(gap) / 4
    assert classwise_calibration_error(true, p) == pytest.approx(expected)


def test_being_right_too_often_in_one_class_is_seen_class_by_class_only():
    """Confidence .5 is right half of the time, but always in one class and never in the other."""
    true, label = np.repeat([0, 1], 100), np.zeros(200, int)
    p = np.full((200, 2), 0.5)
    assert calibration_errors(true, label, np.log(p[:, 0]))[0] == pytest.approx(0)
    assert classwise_calibration_error(true, p) == pytest.approx(0)
    tilted = np.where(true[:, None] == 0, [0.5, 0.5], [0.5 + 1e-3, 0.5 - 1e-3])
    assert classwise_calibration_error(true, tilted, bins=2) == pytest.approx(0.25, abs=1e-3)


def test_probabilities_of_logits():
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3)]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    assert np.isnan(softmax(np.array([[np.inf, 0.0]]))).all()


def test_brier_and_nll_from_stored_columns_equal_the_full_formula():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(5), 300)
    true = rng.integers(0, 5, 300)
    logp_true = np.log(p[np.arange(300), true])
    stored = (logp_true.astype(np.float16), (p**2).sum(1).astype(np.float16))
    full = ((p - np.eye(5)[true]) ** 2).sum(1).mean()
    assert brier(*stored) == pytest.approx(full, abs=1e-3)
    assert nll(stored[0]) == pytest.approx(-logp_true.mean(), rel=1e-3)


def test_what_is_not_finite_is_not_hidden():
    nan = np.array([np.nan, -0.1], np.float16)
    labels = np.zeros(2, int)
    assert np.isnan(nll(nan))
    assert np.isnan(calibration_errors(labels, labels, nan)).all()
    assert np.isnan(classwise_calibration_error(labels, np.full((2, 2), np.nan)))
    assert np.isnan(classwise_calibration_error(labels[:0], np.ones((0, 2))))
    with pytest.raises(ValueError, match="one row per image"):
        classwise_calibration_error(labels, np.ones((3, 2)))
