"""Counts of right and wrong answers against hand-computed numbers and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
)

from rcm.analysis.classification import (
    accuracy,
    agreement,
    balanced_accuracy,
    confusion_matrix,
    g_mean,
    group_recalls,
    macro_f1,
    per_class_recall,
    precision,
    recall,
)

TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2], np.uint8)
PRED = np.array([0, 0, 1, 1, 0, 2, 2, 2, 2, 0], np.uint8)
COUNTS = confusion_matrix(TRUE, PRED, 3)


def test_hand_computed_rates_and_their_means():
    assert COUNTS.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 4]]
    assert accuracy(COUNTS) == pytest.approx(0.7)
    np.testing.assert_allclose(recall(COUNTS), [2 / 3, 1 / 2, 4 / 5])
    np.testing.assert_allclose(precision(COUNTS), [2 / 4, 1 / 2, 4 / 4])
    assert balanced_accuracy(TRUE, PRED, 3) == pytest.approx((2 / 3 + 1 / 2 + 4 / 5) / 3)
    assert g_mean(recall(COUNTS)) == pytest.approx((2 / 3 * 1 / 2 * 4 / 5) ** (1 / 3))
    # F1 by hand: class 0: 2*2/(3+4), class 1: 2*1/(2+2), class 2: 2*4/(5+4)
    assert macro_f1(COUNTS) == pytest.approx((4 / 7 + 1 / 2 + 8 / 9) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(7), rng.choice(7, 200, p=np.arange(7, 0, -1) / 28)])
    pred = np.where(rng.random(207) < 0.6, true, rng.integers(0, 7, 207))
    counts = confusion_matrix(true, pred, 7)
    np.testing.assert_allclose(
        per_class_recall(true, pred, 7), recall_score(true, pred, average=None)
    )
    np.testing.assert_allclose(precision(counts), precision_score(true, pred, average=None))
    assert accuracy(counts) == accuracy_score(true, pred)
    balanced = balanced_accuracy(true, pred, 7)
    assert balanced == pytest.approx(balanced_accuracy_score(true, pred))
    assert macro_f1(counts) == pytest.approx(f1_score(true, pred, average="macro"))


def test_a_class_without_images_is_nan_and_left_out():
    wider = confusion_matrix(TRUE, PRED, 4)
    assert np.isnan(recall(wider)[3])
    assert np.isnan(precision(wider)[3])
    assert balanced_accuracy(TRUE, PRED, 4) == balanced_accuracy(TRUE, PRED, 3)
    assert g_mean(recall(wider)) == g_mean(recall(COUNTS))
    groups = group_recalls(recall(wider), ["head", "head", "medium", "tail"])
    assert groups["head"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(groups["tail"])
    nothing = confusion_matrix(TRUE[:0], PRED[:0], 3)
    assert np.isnan([accuracy(nothing), macro_f1(nothing), g_mean(recall(nothing))]).all()


def test_a_class_that_is_never_answered_has_no_precision():
    counts = confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 0]), 2)
    assert precision(counts)[0] == pytest.approx(2 / 3)
    assert np.isnan(precision(counts)[1])
    assert g_mean(recall(counts)) == 0


def test_step_tails_have_no_medium_group():
    assert group_recalls(np.array([1.0, 0.5]), ["head", "tail"]) == {"head": 1.0, "tail": 0.5}


def test_agreement_and_flips_by_hand():
    """Of eight images: two right by both, one by the parent alone, two by the child alone; of three
    wrong by both one has another answer."""
    true = np.array([0, 0, 0, 0, 0, 0, 0, 0])
    parent = np.array([0, 0, 0, 1, 1, 1, 2, 1])
    child = np.array([0, 0, 1, 0, 0, 1, 2, 2])
    found = agreement(true, child, parent)
    assert found == {
        "agreement": 4 / 8, "churn": 4 / 8, "negative_flips": 1 / 8, "positive_flips": 2 / 8,
    }  # fmt: skip
    assert agreement(true, parent, parent)["churn"] == 0
    assert agreement(true[:0], child[:0], parent[:0]) == {}


@pytest.mark.parametrize("seed", range(3))
def test_flips_account_for_the_difference_of_accuracies(seed):
    true, own, parent = np.random.default_rng(seed).integers(0, 3, (3, 500))
    found = agreement(true, own, parent)
    change = (own == true).mean() - (parent == true).mean()
    assert found["positive_flips"] - found["negative_flips"] == pytest.approx(change)
    back = agreement(true, parent, own)
    assert back["negative_flips"] == found["positive_flips"]
    assert back["agreement"] == found["agreement"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: per_class_recall(TRUE, PRED[:5], 3), "one length"),
        (lambda: per_class_recall(TRUE, PRED, 2), "number of classes"),
        (lambda: group_recalls(np.ones(2), ["head", "top"]), "expected one of head"),
        (lambda: agreement(TRUE, PRED, PRED[:5]), "answers to the same images"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
