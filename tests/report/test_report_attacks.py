"""The table of attacks: means by hand, warnings counted, nothing where nobody was attacked."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.attacks import transfer
from rcm.analysis.corruption import corruption_summary
from rcm.report.attacks import attack_sections
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


def small(attacked, pipelines):
    """What is drawn within a second: the attacked pipelines at the attacked ratio."""
    names = ("dense", "int8")
    part = attacked[(attacked["ratio"] == 100) & attacked["pipeline"].isin(names)]
    return part, [info for info in pipelines if info.name in names]


def test_means_intervals_and_warnings(attacked, pipelines):
    table = attacks_table(attacked)
    one = table[(table["pipeline"] == "int8") & (table["shift"] == "pgd20")].iloc[0]
    np.testing.assert_allclose(one["mean"], 30)
    np.testing.assert_allclose(one["hi"] - one["mean"], 4.302653 * 10 / np.sqrt(3), rtol=1e-5)
    assert one["hidden_gradients"] == 1
    [section] = attack_sections(table, transfer(attacked), pipelines)
    assert section.heads == ["pgd20, 8", "square99, 8"]
    [_, dense], [_, int8] = section.rows
    assert (int8[0].value, int8[0].margin) == ("30.0", "±24.8")
    assert "(1 of 3)" in int8[0].note
    assert (int8[1].value, int8[1].margin) == ("10.0", "")
    assert dense[0].note == ""


def test_both_ways_of_a_transfer_stand_side_by_side(attacked, pipelines, run):
    own = attacked[(attacked["metric"] == "robust_accuracy") & (attacked["pipeline"] == "int8")]
    ways = [own.assign(metric=way, value=own["value"] / 2) for way in ("from_parent", "to_parent")]
    both = pd.concat([attacked, *ways])
    section = attack_sections(attacks_table(both), transfer(both), pipelines)[1]
    assert section.heads == [
        "pgd20, 8: from parent", "pgd20, 8: to parent",
        "square99, 8: from parent", "square99, 8: to parent",
    ]  # fmt: skip
    [(_, cells)] = section.rows
    assert [cell.value for cell in cells] == ["15.0", "15.0", "5.0", "5.0"]
    report = write_report(*small(both, pipelines), run, [])
    for text in (report.html, report.markdown):
        assert "square99, 8: to parent" in text
    assert 'href="#transfer-of-attacks"' in report.html
    assert 'id="transfer-of-attacks"' in report.html


def test_the_page_shows_attacks_and_corruptions_stay(attacked, frame, pipelines, run):
    report = write_report(*small(attacked, pipelines), run, [])
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
    assert attack_sections(table, transfer(frame), pipelines) == []
