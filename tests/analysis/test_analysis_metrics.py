"""Tidy rows of a member on a cell, and post-hoc labels."""

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score

from rcm.analysis.calibration import classwise_calibration_error
from rcm.analysis.metrics import Cell, MemberInfo, agreement_rows, member_rows, posthoc

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


def test_posthoc_moves_labels_towards_rare_classes():
    logits = np.array([[2.0, 1.5], [3.0, 0.0]], np.float16)
    prior = np.log([0.9, 0.1])
    assert posthoc(logits, prior, tau=0.0).tolist() == [0, 0]
    assert posthoc(logits, prior, tau=1.0).tolist() == [1, 0]  # log 9 = 2.197


def test_clean_rows_are_complete_and_tidy():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(3), len(TRUE))
    rows = member_rows(info(), "clean", 0, cell_of(p, TRUE), TRUE, GROUPS, np.log(p))
    found = values(rows)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "g_mean", "recall_head",
                 "recall_medium", "recall_tail", "ece", "ece_equal_mass", "ece_classwise", "nll",
                 "brier", "bytes", "compression_ratio", "posthoc_balanced_accuracy"):  # fmt: skip
        assert (name, "") in found
    assert found["compression_ratio", ""] == 4
    assert [found["recall", str(c)] for c in range(3)] == pytest.approx(
        recall_score(TRUE, p.argmax(1), average=None)
    )
    assert [found["precision", str(c)] for c in range(3)] == pytest.approx(
        precision_score(TRUE, p.argmax(1), average=None)
    )
    assert found["ece_classwise", ""] == pytest.approx(classwise_calibration_error(TRUE, p))
    assert found["train_count", "2"] == 10
    assert np.nansum([found["bin_count", str(b)] for b in range(15)]) == len(TRUE)
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
        assert not names & {"bytes", "compression_ratio", "precision", "train_count"}


def test_a_diverged_member_is_named_and_measures_nothing():
    cell = cell_of(np.full((10, 3), 1 / 3), TRUE)
    rows = member_rows(info(status="diverged"), "clean", 0, cell, TRUE, GROUPS)
    assert [(row["metric"], row["status"]) for row in rows] == [("diverged", "diverged")]


def test_a_prior_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="one log share per class"):
        posthoc(np.zeros((2, 3)), np.zeros(2))


def test_agreement_is_given_where_both_members_can_be_measured():
    child = info(pipeline="int8")
    rows = agreement_rows(child, info(pipeline="dense"), "fog", 3, TRUE, PRED, TRUE)
    assert {(row["pipeline"], row["shift"], row["severity"]) for row in rows} == {
        ("int8", "fog", 3)
    }
    found = values(rows)
    assert found["churn", ""] == found["negative_flips", ""] == pytest.approx(0.3)
    for pair in ((child, info(status="diverged")), (info(status="diverged"), child)):
        assert agreement_rows(*pair, "fog", 3, TRUE, PRED, TRUE) == []


def test_rows_refuse_foreign_predictions_and_impossible_severities():
    cell = cell_of(np.full((10, 3), 1 / 3), TRUE)
    with pytest.raises(ValueError, match="belong to other images"):
        member_rows(info(), "clean", 0, cell, TRUE[:4], GROUPS)
    with pytest.raises(ValueError, match="expected 0 for clean"):
        member_rows(info(), "clean", 2, cell, TRUE, GROUPS)
    with pytest.raises(ValueError, match="expected one of ok, diverged"):
        member_rows(info(status="lost"), "clean", 0, cell, TRUE, GROUPS)
