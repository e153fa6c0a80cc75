"""Tests of changes and intervals over images, as the page shows them."""

import pandas as pd
import pytest

from rcm.analysis.images import COLUMNS
from rcm.report.changes import HEADS, change_sections


@pytest.fixture
def sections(report, pipelines):
    rows = [
        ("d", "m", "exp", 1.0, "prune50", 3, 2000, 71.0, 69.0, 73.0, "dense", -1.5, -2.0, -1.0),
        ("d", "m", "exp", 1.0, "dense", 3, 2000, 72.5, 70.0, 74.0, "", *3 * [float("nan")]),
    ]
    names = {p.name for p in pipelines}
    rows = [(*row[:4], "prune50" if "prune50" in names else pipelines[-1].name, *row[5:])
            if row[4] != "dense" else row for row in rows]  # fmt: skip
    images = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    return change_sections({**report.tables, "image_intervals": images}, pipelines)


def test_three_seeds_leave_tests_without_normality_open(sections, report, pipelines):
    tested = sections[0]
    assert tested.heads == HEADS
    table = report.tables["changes"]
    compared = [p for p in pipelines if p.baseline]
    assert len(tested.rows) == 3 * len(compared)  # ratios
    for _, cells in tested.rows:
        assert [cell.note for cell in cells[2:4]] == ["least 0.25"] * 2
        assert [cell.value for cell in cells[2:4]] == ["undecided (n)"] * 2
        assert not cells[2].strong
    bold = sum(cells[1].strong for _, cells in tested.rows)
    main = table[(table["quantity"] == "accuracy_change") & (table["p"] <= 0.05)]
    primary = {p.name: p.baseline for p in pipelines}
    assert bold == (main["baseline"] == main["pipeline"].map(primary)).sum() > 0


def test_intervals_over_images_stand_in_the_order_of_the_pipelines(sections):
    (first, dense), (_, other) = sections[1].rows
    assert first == "dense"
    assert [cell.value for cell in dense] == ["72.5", "\N{EN DASH}"]
    assert other[1].margin == "[\N{MINUS SIGN}2.0, \N{MINUS SIGN}1.0]"
    assert other[1].strong


def test_the_page_shows_what_is_tested_and_the_tables_hold_the_rest(report):
    assert "Changes tested" in report.markdown
    assert "tables/changes.csv" in report.files
    quantities = set(report.tables["main"]["quantity"])
    assert {"accuracy_iqm", "corrupted_accuracy_iqm"} <= quantities
