"""Metrics against hand-computed numbers and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from rcm.analysis import metrics
from rcm.analysis.metrics import Cell, MemberInfo, member_rows

TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2], np.uint8)
PRED = np.array([0, 0, 1, 1, 0, 2, 2, 2, 2, 0], np.uint8)
GROUPS = ("head", "medium", "tail")


def info(**changes) -> MemberInfo:
    fields = {
        "dataset": "digits", "model": "tiny", "imbalance": "exp", "ratio": 10.0, "seed": 0,
        "pipeline": "prune_50", "fingerprint": "abc", "train_counts": (100, 31, 10),
        "n_max": 100, "deflated_bytes": 500, "parent_bytes": 2000,
    }  # fmt: skip
    return MemberInfo(**(fields | changes))


def cell_of(probabilities: np.ndarray, labels_true: np.ndarray) -> Cell:
    p = probabilities
    label = p.argmax(1)
    rows = np.arange(len(p))
    return Cell(
        label.astype(np.uint8),
        np.log(p[rows, label]).astype(np.float16),
        np.log(p[rows, labels_true]).astype(np.float16),
        (p**2).sum(1).astype(np.float16),
    )


def values(rows: list[dict]) -> dict:
    return {(row["metric"], row["cls"]): row["value"] for row in rows}


def test_hand_computed_recalls_and_their_means():
    recall = metrics.per_class_recall(TRUE, PRED, 3)
    np.testing.assert_allclose(recall, [2 / 3, 1 / 2, 4 / 5])
    assert metrics.accuracy(TRUE, PRED) == pytest.approx(0.7)
    assert metrics.balanced_accuracy(TRUE, PRED, 3) == pytest.approx((2 / 3 + 1 / 2 + 4 / 5) / 3)
    assert metrics.g_mean(TRUE, PRED, 3) == pytest.approx((2 / 3 * 1 / 2 * 4 / 5) ** (1 / 3))
    # F1 by hand: class 0: 2*2/(3+4), class 1: 2*1/(2+2), class 2: 2*4/(5+4)
    assert metrics.macro_f1(TRUE, PRED, 3) == pytest.approx((4 / 7 + 1 / 2 + 8 / 9) / 3)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(7), rng.choice(7, 200, p=np.arange(7, 0, -1) / 28)])
    pred = np.where(rng.random(207) < 0.6, true, rng.integers(0, 7, 207))
    np.testing.assert_allclose(
        metrics.per_class_recall(true, pred, 7), recall_score(true, pred, average=None)
    )
    balanced = metrics.balanced_accuracy(true, pred, 7)
    assert balanced == pytest.approx(balanced_accuracy_score(true, pred))
    assert metrics.macro_f1(true, pred, 7) == pytest.approx(f1_score(true, pred, average="macro"))


def test_a_class_without_images_is_nan_and_left_out():
    recall = metrics.per_class_recall(TRUE, PRED, 4)
    assert np.isnan(recall[3])
    assert metrics.balanced_accuracy(TRUE, PRED, 4) == metrics.balanced_accuracy(TRUE, PRED, 3)
    assert metrics.g_mean(TRUE, PRED, 4) == metrics.g_mean(TRUE, PRED, 3)
    groups = metrics.group_recalls(recall, ["head", "head", "medium", "tail"])
    assert groups["head"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(groups["tail"])


def test_g_mean_is_zero_when_a_class_is_never_found():
    assert metrics.g_mean(np.array([0, 0, 1]), np.array([0, 0, 0]), 2) == 0


def test_step_tails_have_no_medium_group():
    recalls = metrics.group_recalls(np.array([1.0, 0.5]), ["head", "tail"])
    assert recalls == {"head": 1.0, "tail": 0.5}


def test_calibration_error_by_hand():
    # confidences .95 (right, wrong) and .5 (right) lie in two bins of 15
    confidence = np.log([0.95, 0.95, 0.5])
    error = metrics.expected_calibration_error(np.array([0, 0, 0]), np.array([0, 1, 0]), confidence)
    assert error == pytest.approx(2 / 3 * abs(0.5 - 0.95) + 1 / 3 * abs(1 - 0.5))


def test_a_calibrated_model_has_a_small_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 20_000)
    wrong = (rng.random(20_000) > confidence).astype(int)
    calibrated = metrics.expected_calibration_error(
        np.zeros(20_000, int), wrong, np.log(confidence)
    )
    overconfident = metrics.expected_calibration_error(
        np.zeros(20_000, int), wrong, np.log(np.minimum(1, confidence + 0.2))
    )
    assert calibrated < 0.02 < 0.1 < overconfident


def test_full_confidence_falls_into_the_last_bin():
    labels = np.zeros(4, int)
    assert metrics.expected_calibration_error(labels, labels, np.zeros(4)) == 0


def test_brier_and_nll_from_stored_columns_equal_the_full_formula():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(5), 300)
    true = rng.integers(0, 5, 300)
    cell = cell_of(p, true)
    full = ((p - np.eye(5)[true]) ** 2).sum(1).mean()
    assert metrics.brier(cell.logp_true, cell.sum_p2) == pytest.approx(full, abs=1e-3)
    expected = -np.log(p[np.arange(300), true]).mean()
    assert metrics.nll(cell.logp_true) == pytest.approx(expected, rel=1e-3)


def test_non_finite_predictions_are_not_hidden():
    assert np.isnan(metrics.nll(np.array([np.nan, -0.1], np.float16)))
    nan = np.array([np.nan, -0.1], np.float16)
    assert np.isnan(metrics.expected_calibration_error(TRUE[:2], PRED[:2], nan))


def test_posthoc_moves_labels_towards_rare_classes():
    logits = np.array([[2.0, 1.5], [3.0, 0.0]], np.float16)
    prior = np.log([0.9, 0.1])
    assert metrics.posthoc(logits, prior, tau=0.0).tolist() == [0, 0]
    assert metrics.posthoc(logits, prior, tau=1.0).tolist() == [1, 0]  # log 9 = 2.197


def test_clean_rows_are_complete_and_tidy():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), len(TRUE))
    rows = member_rows(info(), "clean", 0, cell_of(p, TRUE), TRUE, GROUPS, np.log(p))
    found = values(rows)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "g_mean", "recall_head",
                 "recall_medium", "recall_tail", "ece", "nll", "brier", "bytes",
                 "compression_ratio", "posthoc_balanced_accuracy"):  # fmt: skip
        assert (name, "") in found
    assert found["compression_ratio", ""] == 4
    assert [found["recall", str(c)] for c in range(3)] == pytest.approx(
        metrics.per_class_recall(TRUE, p.argmax(1), 3)
    )
    assert found["train_count", "2"] == 10
    assert {row["realised_ratio"] for row in rows} == {10.0}


def test_other_counts_of_the_size_are_rows_where_they_are_known():
    cell = cell_of(np.full((10, 3), 1 / 3), TRUE)
    counted = info(sizes={"bytes_packed": 700, "bytes_zstd": 490})
    found = values(member_rows(counted, "clean", 0, cell, TRUE, GROUPS))
    assert (found["bytes", ""], found["bytes_packed", ""], found["bytes_zstd", ""]) == (
        500,
        700,
        490,
    )
    earlier = values(member_rows(info(), "clean", 0, cell, TRUE, GROUPS))
    assert set(found) - set(earlier) == {("bytes_packed", ""), ("bytes_zstd", "")}


def test_shifted_and_validation_rows_carry_no_sizes():
    cell = cell_of(np.full((10, 3), 1 / 3), TRUE)
    weighed = info(sizes={"bytes_zstd": 490})
    for shift, severity in (("gaussian_noise", 3), ("clean_val", 0)):
        names = {row["metric"] for row in member_rows(weighed, shift, severity, cell, TRUE, GROUPS)}
        assert "accuracy" in names
        assert not names & {"bytes", "bytes_zstd", "compression_ratio", "train_count"}


def test_a_diverged_member_is_named_and_measures_nothing():
    cell = cell_of(np.full((10, 3), 1 / 3), TRUE)
    rows = member_rows(info(status="diverged"), "clean", 0, cell, TRUE, GROUPS)
    assert [(row["metric"], row["status"]) for row in rows] == [("diverged", "diverged")]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.per_class_recall(TRUE, PRED[:5], 3), "one length"),
        (lambda: metrics.per_class_recall(TRUE, PRED, 2), "number of classes"),
        (lambda: metrics.group_recalls(np.ones(2), ["head", "top"]), "expected one of head"),
        (lambda: metrics.posthoc(np.zeros((2, 3)), np.zeros(2)), "one log share per class"),
    ],
)
def test_bad_input_says_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rows_refuse_foreign_predictions_and_impossible_severities():
    cell = cell_of(np.full((10, 3), 1 / 3), TRUE)
    with pytest.raises(ValueError, match="belong to other images"):
        member_rows(info(), "clean", 0, cell, TRUE[:4], GROUPS)
    with pytest.raises(ValueError, match="expected 0 for clean"):
        member_rows(info(), "clean", 2, cell, TRUE, GROUPS)
    with pytest.raises(ValueError, match="expected one of ok, diverged"):
        member_rows(info(status="lost"), "clean", 0, cell, TRUE, GROUPS)
