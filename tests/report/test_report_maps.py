"""Heat maps: the dense level beside its change, and corruption severity by severity."""

from xml.etree import ElementTree

import pandas as pd
import pytest

from rcm.analysis.by_class import class_recall, recall_change
from rcm.analysis.corruption import excess_by_severity
from rcm.report.attack_maps import attack_figures
from rcm.report.class_maps import recall_figure
from rcm.report.corruption_maps import severity_figures
from rcm.report.heatmaps import LEVELS, both_ways, colour_bar, heat_map, label_cells
from rcm.report.layout import MINUS
from rcm.report.style import figure_style, new_figure

NAMES = ("dense", "prune_90")


@pytest.fixture(scope="module")
def infos(pipelines):
    return [p for p in pipelines if p.name in NAMES]


@pytest.fixture(scope="module")
def part(frame):
    return frame[frame["pipeline"].isin(NAMES) & (frame["ratio"] != 10)]


def written(figure):
    """The texts of a figure in the order in which they were drawn."""
    texts = (node.text or "" for node in ElementTree.fromstring(figure.svg).iter())
    return [text for text in texts if text.strip()]


def test_colours_are_as_strong_as_values_are_far_from_the_one_without():
    change = both_ways("RdBu", 20.0, 100.0)
    assert [change.depth(v) for v in (100, 90, 120, 150)] == [0, 0.5, 1, 1]
    assert [LEVELS.depth(v) for v in (0, 25, 100)] == [0, 0.25, 1]


def test_what_dense_networks_recall_stands_above_its_change(part, infos):
    levels, change = class_recall(part), recall_change(part, infos)
    with figure_style():
        texts = written(recall_figure(change, levels, infos))
    clean = part[(part["metric"] == "recall") & (part["pipeline"] == "dense")]
    means = 100 * clean.groupby(["ratio", "cls"])["value"].mean()
    places = [i for i, text in enumerate(texts) if text == "dense: recall, %"]
    assert len(places) == 2
    for ratio in (1, 100):
        shown = [f"{means[ratio, str(c)]:.0f}" for c in range(10)]
        starts = [i for i in range(len(texts)) if texts[i : i + 10] == shown]
        assert len(starts) == 1


def test_levels_and_changes_add_up(part, infos):
    levels = class_recall(part).set_index(["pipeline", "ratio", "cls"])["mean"]
    for row in recall_change(part, infos).itertuples():
        own, parent = (levels[name, row.ratio, row.cls] for name in (row.pipeline, "dense"))
        assert own - parent == pytest.approx(row.mean)


def test_every_severity_has_its_panel_and_its_numbers(part, infos):
    table = excess_by_severity(part, infos)
    with figure_style():
        figures = severity_figures(table, infos)
    assert [figure.name for figure in figures] == ["severities_ratio_1", "severities_ratio_100"]
    for figure, ratio in zip(figures, (1, 100), strict=True):
        assert "n = 3 seeds" in figure.caption
        texts = written(figure)
        assert [t for t in texts if t.startswith("severity")] == [
            "severity 1", "severity 3", "severity 5",
        ]  # fmt: skip
        own = table[(table["ratio"] == ratio) & (table["severity"] == 5)]
        plain = [text.removesuffix(" •").replace(MINUS, "-") for text in texts]
        for mean in own["mean"]:
            assert f"{mean:+.1f}" in plain


def test_a_single_severity_gives_no_further_figure(part, infos):
    table = excess_by_severity(part[part["severity"].isin((0.0, 3.0))], infos)
    assert len(table)
    assert severity_figures(table, infos) == []
    assert severity_figures(pd.DataFrame(columns=table.columns), infos) == []


@pytest.mark.parametrize(
    ("names", "shown"),
    [((), [str(c) for c in range(10)]), ([f"kind {c}" for c in "abcdefghij"],) * 2],
)
def test_classes_are_called_by_name_where_they_have_one(part, infos, names, shown):
    own = part[part["severity"] == 0]
    with figure_style():
        recall = recall_figure(recall_change(own, infos), class_recall(own), infos, names)
    words = written(recall)
    last = [words.index(name) for name in shown if name in words]
    assert len(last) == 10
    assert last == sorted(last) or len(names) == 0  # digits are also numbers of cells
    assert ("class id" in " ".join(words)) == (not names)


def withstood():
    """Two attacks at two radii: `prune_90` loses 5 + eps points under the first alone."""
    rows = [
        {"ratio": 1.0, "shift": shift, "severity": float(eps), "pipeline": name, "mean": mean,
         "quantity": quantity, "lo": mean - 1, "hi": mean + 1, "n": 3}
        for shift, harm in (("pgd20", 1), ("square50", 0))
        for eps in (2, 16)
        for name, quantity, mean in (
            ("dense", "shifted_accuracy", 40.0 - eps),
            ("prune_90", "shifted_accuracy", 40.0 - eps - harm * (5 + eps)),
            ("prune_90", "shifted_change", -harm * (5.0 + eps)),
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_changes_under_attack_stand_below_what_is_left_to_the_parent(infos):
    with figure_style():
        [figure] = attack_figures(withstood(), infos)
        both = attack_figures(pd.concat([withstood(), withstood().assign(ratio=10.0)]), infos)
        nothing = attack_figures(withstood().assign(severity=0.0), infos)
    texts = [text.replace(MINUS, "-") for text in written(figure)]
    assert [text for text in texts if text in ("pgd20", "square50")] == ["pgd20", "square50"]
    cells = [text for text in texts if text in ("38", "24", "-7.0 •", "-21.0 •", "0.0")]
    assert cells == ["38", "24", "38", "24", "-7.0 •", "-21.0 •", "0.0", "0.0"]
    assert texts.count("prune 90 %") == 1  # rows are named once
    assert figure.name == "attacks"
    assert "n = 3 seeds" in figure.caption
    with figure_style():  # a parent that was not attacked leaves its row empty
        [alone] = attack_figures(withstood().query("pipeline != 'dense'"), infos)
    assert "dense: accuracy, %" in texts
    assert "dense: accuracy, %" not in written(alone)
    assert [one.name for one in both] == ["attacks_ratio_1", "attacks_ratio_10"]
    assert nothing == []


def test_names_that_would_touch_stand_aslant():
    for columns, aslant in ((["a_b"] * 19, False), (["brightness", "contrast"] * 9, True)):
        axes = new_figure(9.2, 2).subplots()
        label_cells(axes, [], columns)
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {35.0 * aslant}


@pytest.mark.parametrize(
    ("values", "ends"),
    [((-1, 2), "neither"), ((-3, 2), "min"), ((0, 2.5), "max"), ((-9, 9), "both")],
)
def test_the_bar_of_colours_points_where_cells_lie_beyond_it(values, ends):
    """Cells of panels with another scale do not count."""
    table = pd.DataFrame({"pipeline": "one", "cls": ["a", "b"], "mean": values, "lo": -9, "hi": 9})
    far = table.assign(mean=500.0)
    with figure_style():
        canvas = new_figure(4, 2)
        first, second = canvas.subplots(1, 2)
        scale = both_ways("RdBu", 2.0, 0.0)
        heat_map(first, table, "cls", ["one"], ["a", "b"], scale)
        heat_map(second, far, "cls", ["one"], ["a", "b"], LEVELS)
        told = colour_bar(canvas, scale, [first, second], "points")
    assert first.collections[0].colorbar.extend == ends
    assert bool(told) == (ends != "neither")
