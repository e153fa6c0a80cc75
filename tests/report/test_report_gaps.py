"""The gap of class imbalance, and the difference in differences, which is what is claimed."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas

from rcm.analysis.claims_imbalance import IMBALANCE_CLAIMS
from rcm.analysis.statistics import gap_table
from rcm.report import gaps
from rcm.report.gaps import gap_figures
from rcm.report.points import mark_rows
from rcm.report.style import figure_style


@pytest.fixture(scope="module")
def table(frame, pipelines):
    return gap_table(frame, pipelines)


def drawn(table, pipelines):
    with figure_style():
        return {figure.name: figure for figure in gap_figures(table, pipelines)}


def texts(figure):
    return [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.text]


def test_differences_are_marked_against_the_baseline_and_hollow_against_another_parent(
    table, pipelines, monkeypatch
):
    marked = {True: [], False: []}

    def record(axes, rows, shown, filled=True, below=0.0):
        marked[filled] += zip(rows["ratio"], rows["pipeline"], rows["baseline"], strict=True)
        mark_rows(axes, rows, shown, filled, below)

    monkeypatch.setattr(gaps, "mark_rows", record)
    drawn(table, pipelines)
    infos = [info for info in pipelines if info.parent]
    for filled, wanted in (
        (True, {(p.name, p.baseline) for p in infos}),
        (False, {(p.name, p.parent) for p in infos if p.parent != p.baseline}),
    ):
        found = marked[filled]
        assert len(found) == len(set(found)) == 2 * len(wanted)  # one in the panel of each ratio
        assert {(name, other) for _, name, other in found} == wanted
        assert {ratio for ratio, *_ in found} == {10, 100}


def test_ratios_of_the_differences_stand_side_by_side(table, pipelines):
    both = drawn(table, pipelines)
    words = texts(both["did"])
    assert [word for word in words if "imbalance ratio" in word] == [
        "imbalance ratio 10", "imbalance ratio 100"
    ]  # fmt: skip
    compared = {info.label for info in pipelines if info.parent}
    assert {label: words.count(label) for label in compared} == dict.fromkeys(compared, 1)
    assert "dense" not in words
    for figure in both.values():
        assert "n = 3 seeds" in figure.caption
        assert "95 % paired t intervals" in figure.caption


def test_gaps_of_one_ratio_are_rows_and_those_of_several_are_curves(table, pipelines):
    curves = texts(drawn(table, pipelines)["gap"])
    rows = drawn(table[table["ratio"] == 100], pipelines)
    assert list(rows) == ["did", "gap"]
    assert "imbalance ratio (log scale)" in curves
    words = texts(rows["gap"])
    assert "imbalance ratio (log scale)" not in words
    assert words.count("imbalance ratio 100") == 1
    assert all(words.count(info.label) == 1 for info in pipelines)


def test_nothing_is_drawn_of_what_is_not_there(table, pipelines):
    assert drawn(table.iloc[:0], pipelines) == {}
    alone = table[table["pipeline"] == "dense"]
    assert list(drawn(alone, pipelines)) == ["gap"]


def test_without_another_parent_nothing_is_said_of_hollow_marks(table, pipelines):
    own = [info for info in pipelines if info.parent == info.baseline]
    few = table[table["pipeline"].isin([info.name for info in own])]
    figure = drawn(few, pipelines)["did"]
    assert "hollow" not in figure.caption
    assert "minus the parent's" not in texts(figure)


def test_the_baseline_of_a_panel_has_its_interval(table, pipelines):
    [info] = [one for one in pipelines if one.name == "prune_90"]
    own = table[(table["quantity"] == "gap") & (table["unit"] == "points")]
    with figure_style():
        axes = Canvas().subplots()
        gaps._gap_panel(axes, own, info, {one.name: one.label for one in pipelines})
    bars = [
        segment[:, 1] for collection in axes.collections for segment in collection.get_segments()
    ]
    for name in ("finetune", "prune_90"):
        for row in own[own["pipeline"] == name].itertuples():
            assert any(np.allclose(sorted(bar), (row.lo, row.hi)) for bar in bars)
    assert len(bars) == 4


def test_two_kinds_of_marks_leave_the_grid(table, pipelines):
    own = table[table["ratio"] == 100].drop_duplicates("pipeline")
    with figure_style():
        axes = Canvas().subplots()
        mark_rows(axes, own, pipelines)
        mark_rows(axes, own, pipelines, filled=False, below=0.3)
    assert all(line.get_visible() for line in axes.get_xgridlines())


def test_claims_about_differences_lead_to_them():
    shown = {claim.id: claim.figure for claim in IMBALANCE_CLAIMS}
    about = {"C1", "C2", "C3", "C4a", "C4b", "C5a", "C5b"}
    assert {name for name, figure in shown.items() if figure == "did"} == about
    assert shown["C6"] == "gap"
