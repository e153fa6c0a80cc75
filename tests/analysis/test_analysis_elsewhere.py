"""Robustness drop and relative robustness, by hand."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.elsewhere import domain_rows, robustness, source_row
from rcm.analysis.metrics import Cell, MemberInfo
from rcm.analysis.statistics import PipelineInfo

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("finetune", "finetune", "control", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "finetune", "dense"),
]
# accuracy at home and away of each seed
ACCURACY = {
    "dense": [(0.8, 0.4), (0.9, 0.6)],
    "finetune": [(0.85, 0.5), (0.9, 0.6)],
    "prune": [(0.6, 0.15), (0.75, 0.25)],
}
INFO = MemberInfo("d", "m", "exp", 1, 0, "dense", "f", (5, 5, 5), 5, 1.0, 1.0, {})


def frame(shift="usps", severity=0.0, metric="domain_accuracy"):
    rows = []
    for pipeline, seeds in ACCURACY.items():
        for seed, (home, away) in enumerate(seeds):
            for name, value in (("source_accuracy", home), (metric, away)):
                rows.append(
                    {
                        "dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0,
                        "seed": seed, "pipeline": pipeline, "shift": shift, "severity": severity,
                        "metric": name, "cls": "", "value": value,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    "where", [("usps", 0.0, "domain_accuracy"), ("pgd20", 8.0, "robust_accuracy")]
)
def test_drop_and_relative_robustness_by_hand(where):
    table = robustness(frame(*where), PIPELINES)
    assert set(table["shift"]) == {where[0]}
    assert set(table["severity"]) == {where[1]}
    means = table.set_index(["pipeline", "quantity"])["mean"]
    assert means["prune", "shifted_accuracy"] == pytest.approx(20)
    assert means["prune", "drop"] == pytest.approx((45 + 50) / 2)
    kept = [(0.15 / 0.6) / (0.4 / 0.8), (0.25 / 0.75) / (0.6 / 0.9)]
    assert means["prune", "relative_robustness"] == pytest.approx(np.mean(kept))
    assert means["prune", "shifted_change"] == pytest.approx((-35 - 35) / 2)  # the control's
    assert ("dense", "relative_robustness") not in means


def test_a_parent_that_keeps_nothing_leaves_no_ratio():
    zero = frame()
    away = (zero["pipeline"] == "dense") & (zero["metric"] == "domain_accuracy")
    table = robustness(zero.assign(value=zero["value"].mask(away, 0.0)), PIPELINES)
    assert "relative_robustness" not in set(table["quantity"])
    assert "drop" in set(table["quantity"])


def test_without_attacks_and_domains_there_are_no_rows():
    clean = frame().assign(metric="accuracy", shift="clean")
    assert robustness(clean, PIPELINES).empty


def test_rows_of_a_domain_by_hand():
    """Class 2 does not occur there; at home its images are left out of the comparison."""
    labels = np.array([0, 0, 1, 1])
    zeros = np.zeros(4, np.float16)
    rows = domain_rows(INFO, "usps", Cell(np.array([0, 1, 1, 1]), zeros, zeros, zeros), labels, 3)
    found = {(row["metric"], row["cls"]): row["value"] for row in rows}
    assert found == {
        ("domain_accuracy", ""): 0.75, ("domain_recall", "0"): 0.5, ("domain_recall", "1"): 1.0,
    }  # fmt: skip
    right, like = np.array([True, False, True, False]), np.array([True, True, False, False])
    [row] = source_row(INFO, "usps", 0, right, like)
    assert (row["metric"], row["value"], row["shift"]) == ("source_accuracy", 0.5, "usps")
