"""The table of attacks: means by hand, warnings counted, nothing where nobody was attacked."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.corruption import corruption_summary
from rcm.report.attacks import attacked_rows
from rcm.report.page import write_report
from rcm.report.tables import attacks_table

ACCURACY = {("pgd20", 8.0): (0.2, 0.3, 0.4), ("square99", 8.0): (0.1, 0.1, 0.1)}


@pytest.fixture(scope="module")
def attacked(frame):
    """The planted study with attacks on two pipelines at the largest ratio."""
    part = frame[(frame["ratio"] == 100) & frame["pipeline"].isin(("dense", "int8"))]
    first = part[(part["metric"] == "accuracy") & (part["shift"] == "clean")]
    rows = []
    for (shift, eps), values in ACCURACY.items():
        for seed, value in enumerate(values):
            own = first[first["seed"] == seed].assign(shift=shift, severity=eps)
            rows.append(own.assign(metric="robust_accuracy", value=value))
            warned = (own["pipeline"] == "int8") & (seed == 2)
            rows.append(own.assign(metric="hidden_gradients", value=warned.astype(float)))
    return pd.concat([frame, *rows], ignore_index=True)


def test_means_intervals_and_warnings(attacked, pipelines):
    table = attacks_table(attacked)
    one = table[(table["pipeline"] == "int8") & (table["shift"] == "pgd20")].iloc[0]
    np.testing.assert_allclose(one["mean"], 30)
    np.testing.assert_allclose(one["hi"] - one["mean"], 4.302653 * 10 / np.sqrt(3), rtol=1e-5)
    assert one["hidden_gradients"] == 1
    heads, rows = attacked_rows(table, pipelines)
    assert heads == ["pgd20, 8", "square99, 8"]
    assert len(rows) == 2
    cells = dict(rows)["int8"] if "int8" in dict(rows) else rows[1][1]
    assert cells[0].value == "30.0 ±24.8"
    assert "(1 of 3)" in cells[0].note
    assert rows[0][1][0].note == ""


def test_the_page_shows_attacks_and_corruptions_stay(attacked, frame, pipelines, run):
    report = write_report(attacked, pipelines, run, [])
    for text in (report.html, report.markdown):
        assert "Robust accuracy, percent" in text
        assert "square99, 8" in text
        assert all(note in text for note in run.notes)
    assert "attacks" in report.tables
    for ours, before in zip(
        corruption_summary(attacked, pipelines), corruption_summary(frame, pipelines), strict=True
    ):
        pd.testing.assert_frame_equal(ours, before)


def test_without_attacks_there_is_no_section(frame, pipelines):
    table = attacks_table(frame)
    assert table.empty
    assert attacked_rows(table, pipelines) == ([], [])
