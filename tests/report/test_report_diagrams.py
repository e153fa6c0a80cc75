"""Curves under attack, reliability and ranks: what is drawn where, and nothing where nothing is."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from rcm.analysis.ranks import critical_difference, friedman, rank_table
from rcm.analysis.statistics import MEMBER, PipelineInfo
from rcm.analysis.tradeoffs import objectives, ranked
from rcm.report import curves
from rcm.report.calibration import calibration_figures
from rcm.report.curves import curve_figures
from rcm.report.ranks import Place, critical_difference_diagram, rank_figures
from rcm.report.style import figure_style
from rcm.report.tables import all_tables, calibration_table

INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("finetune", "fine-tuned", "control", "dense", "dense"),
    PipelineInfo("int4", "int4", "post_training", "dense", "dense"),
    PipelineInfo("prune", "pruned", "trained", "finetune", "dense"),
]
NAMES = [info.name for info in INFOS]


def texts(figure):
    return [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.text]


def attacked(ratios=(1.0,)):
    """Accuracies under two attacks; the later a pipeline, the better without an attack."""
    rows = [
        {"ratio": ratio, "pipeline": name, "shift": shift, "severity": eps, "quantity": quantity,
         "mean": 60.0 + i if quantity == "source_accuracy" else 50.0 - eps}
        for ratio in ratios
        for i, name in enumerate(NAMES)
        for shift, radii in (("pgd20", (1, 2)), ("pgd20_l2", (32, 64, 128)), ("stl10", (0,)))
        for eps in radii
        for quantity in ("source_accuracy", "shifted_accuracy", "drop")
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.assign(lo=frame["mean"] - 2, hi=frame["mean"] + 2, n=3)


def test_every_attack_has_a_panel_from_the_images_as_they_were():
    with figure_style():
        [figure] = curve_figures(attacked(), INFOS)
    shown = texts(figure)
    assert [text for text in shown if "pgd" in text or "stl" in text] == ["pgd20", "pgd20_l2"]
    ticks = "".join(text for text in shown if text.isdigit())
    assert "012" in ticks
    assert "03264128" in ticks
    key = [text for text in shown if text in {info.label for info in INFOS}]
    assert key == ["pruned", "int4", "fine-tuned", "dense"]  # the best first
    assert figure.name == "attack_curves"
    assert "n = 3 seeds" in figure.caption


def test_ratios_have_curves_of_their_own_and_no_attacks_none():
    with figure_style():
        figures = curve_figures(attacked((1.0, 10.0)), INFOS[:2])
        domains = attacked()
        nothing = curve_figures(domains[domains["severity"] == 0], INFOS)
    assert [f.name for f in figures] == ["attack_curves_ratio_1", "attack_curves_ratio_10"]
    assert nothing == []


def test_a_single_radius_is_no_curve():
    rows = attacked()
    with figure_style():
        assert curve_figures(rows[~rows["severity"].isin((2, 64, 128))], INFOS) == []
        [figure] = curve_figures(rows[~rows["severity"].isin((64, 128))], INFOS)
    assert [t for t in texts(figure) if t.startswith("pgd")] == ["pgd20"]  # the other has one


def test_many_lines_are_drawn_family_by_family():
    """Nine pipelines of two families: each named once, beside its own references only."""
    more = [
        PipelineInfo(f"{kind}{i}", f"{kind}{i}", "trained", "finetune", "dense", (kind,))
        for kind in ("prune", "cluster")
        for i in range(4)
    ]
    infos = [*INFOS[:2], *more]
    rows = attacked()
    rows = rows[rows["pipeline"] == "dense"]
    rows = pd.concat([rows.assign(pipeline=info.name) for info in infos])
    with figure_style():
        [figure] = curve_figures(rows, infos)
    shown = texts(figure)
    assert [t for t in shown if "pgd" in t] == ["pgd20", "pgd20_l2"] * 2
    assert [t for t in shown if t in ("pruning", "clustering")] == ["pruning", "clustering"]
    assert all(shown.count(info.label) == 1 for info in more)
    assert shown.count("dense") == shown.count("fine-tuned") == 2
    assert "grey: all others" in figure.caption


def test_more_attacks_than_find_room_leave_the_worst_case(monkeypatch):
    monkeypatch.setattr(curves, "MOST", 1)
    monkeypatch.setattr(curves, "CROWDED", 1)
    infos = [INFOS[0], PipelineInfo("int4", "int4", "post_training", "dense", "dense", ("cast",))]
    rows = attacked()
    rows = pd.concat([rows, rows[rows["shift"] == "pgd20"].assign(shift="worst")])
    with figure_style():
        [figure] = curve_figures(rows[rows["pipeline"].isin(("dense", "int4"))], infos)
    assert [t for t in texts(figure) if "pgd" in t or "worst" in t] == ["worst"]
    assert "quantization" in texts(figure)


@pytest.fixture(scope="module")
def binned(frame):
    """The planted study's members with three bins of confidence, the first one nearly empty."""
    first = frame[(frame["shift"] == "clean") & (frame["metric"] == "accuracy")]
    bins = {"3": (1, 0.0, 0.25), "9": (399, 0.5, 0.6), "14": (600, 0.9, 0.97)}
    rows = [
        first.assign(metric=f"bin_{name}", cls=cls, value=value + 0.001 * first["seed"])
        for cls, values in bins.items()
        for name, value in zip(("count", "accuracy", "confidence"), values, strict=True)
    ]
    return pd.concat([frame, *rows], ignore_index=True)


def test_bins_become_estimates_in_percent(binned):
    table = calibration_table(binned)
    own = table[(table["pipeline"] == "int4") & (table["ratio"] == 10) & (table["cls"] == "9")]
    found = own.set_index("quantity")
    assert found.loc["bin_accuracy", "mean"] == pytest.approx(50.1)
    half = 4.302653 * 0.1 / 3**0.5
    assert found.loc["bin_accuracy", "hi"] == pytest.approx(50.1 + half)
    assert found.loc["bin_confidence", "mean"] == pytest.approx(60.1)
    assert found.loc["bin_share", "mean"] == pytest.approx(39.9, abs=0.01)


def test_reliability_leaves_out_the_dense_panel_and_thin_bins(binned, pipelines):
    names = ("dense", "int4", "prune_90")
    shown = [info for info in pipelines if info.name in names]
    table = calibration_table(binned[binned["pipeline"].isin(names)])
    errors = [{"pipeline": n, "ratio": r, "quantity": "ece", "mean": 7.5} for n in names
              for r in (1.0, 10.0, 100.0)]  # fmt: skip
    with figure_style():
        figures = calibration_figures(table, pd.DataFrame(errors), shown)
        nothing = calibration_figures(table[:0], pd.DataFrame(errors), shown)
    assert nothing == []
    assert [f.name for f in figures] == ["calibration_ratio_1", "calibration_ratio_100"]
    assert [t for t in texts(figures[0]) if t in ("int4", "prune 90 %", "dense")] == [
        "prune 90 %", "int4",
    ]  # fmt: skip
    assert texts(figures[0]).count("ECE 7.5 %, parent 7.5 %") == 2
    assert "95 %" in figures[0].caption
    circles = figures[0].svg.count(b'<g id="PathCollection')
    assert circles == 2  # one set of dots a panel


def test_each_panel_is_over_the_network_that_its_own_was_made_of(binned, pipelines):
    """Of two networks; intervals end where percentages do, and the caption says so."""
    names = ("dense", "prune_90", "int4")
    table = calibration_table(binned[binned["pipeline"].isin(names)])
    table = table[table["ratio"] == 1]
    wild = (table["pipeline"] == "int4") & (table["quantity"] == "bin_accuracy")
    table.loc[wild, ["mean", "lo", "hi"]] = 95.0, 80.0, 110.0
    infos = [
        PipelineInfo("dense", "dense", "dense"),
        PipelineInfo("prune_90", "wide", "control", "dense", "dense"),
        PipelineInfo("int4", "int4", "post_training", "prune_90", "prune_90"),
    ]
    errors = pd.DataFrame({"pipeline": names, "ratio": 1.0, "quantity": "ece", "mean": (7, 8, 9)})
    with figure_style():
        [figure] = calibration_figures(table, errors, infos)
    assert {"ECE 8.0 %, parent 7.0 %", "ECE 9.0 %, parent 8.0 %"} <= set(texts(figure))
    assert "Intervals end where percentages do." in figure.caption


def test_results_without_bins_have_no_table_of_calibration(frame):
    assert calibration_table(frame).empty


def members(accuracies):
    """Per-seed accuracies [seeds, pipelines] at two ratios, indexed as by `objectives`."""
    rows = [
        ("cifar10", "resnet8", "exp", ratio, seed, name, value)
        for ratio in (1.0, 10.0)
        for seed, values in enumerate(accuracies)
        for name, value in zip(NAMES, values, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=[*MEMBER, "pipeline", "accuracy"])
    return frame.set_index([*MEMBER, "pipeline"])


def test_the_table_of_ranks_is_friedmans_of_each_ratio():
    values = [[0.9, 0.8, 0.7, 0.6], [0.9, 0.7, 0.8, 0.6], [0.8, 0.9, 0.7, 0.6]]
    table = rank_table(members(values))
    assert len(table) == 2 * len(NAMES)
    at = table[table["ratio"] == 10].set_index("pipeline")
    expected = friedman(pd.DataFrame(values, columns=NAMES), larger_is_better=True)
    assert at["rank"].to_dict() == pytest.approx(expected.mean_ranks.to_dict())
    assert set(at["p"]) == {expected.p}
    assert set(at["smallest_p"]) == {expected.smallest_p}
    assert set(at["difference"]) == {critical_difference(4, 3)}
    assert rank_table(members(values[:1])).empty  # of one seed there is no test
    missing = members(values)
    missing.loc[missing.index.get_level_values("pipeline") == "int4"] = np.nan
    assert set(rank_table(missing)["pipeline"]) == {"dense", "finetune", "prune"}


def test_controls_are_not_ranked_and_corrupted_errors_are_as_published(frame, pipelines):
    by_kind = {info.name: info.kind for info in pipelines}
    table = ranked(objectives(frame, pipelines), pipelines)
    kinds = {by_kind[name] for name in table.index.unique("pipeline")}
    assert "control" in by_kind.values()
    assert kinds == {"dense", "trained", "post_training", "student"} & set(by_kind.values())
    assert {"accuracy", "mce", "relative_mce"} <= set(table.columns)
    assert not {"bytes", "macs", "corrupted_accuracy"} & set(table.columns)
    dense = table.xs("dense", level="pipeline")
    np.testing.assert_allclose(dense[["mce", "relative_mce"]], -100)  # the less, the better
    main = all_tables(frame, pipelines)["main"]
    main = main[main["unit"].str.startswith("percent of the parent, unrounded")]
    of_main = main[main["quantity"] == "mce"].set_index(["pipeline", "ratio"])["mean"]
    found = -table["mce"].groupby(level=["pipeline", "ratio"]).mean().drop("dense")
    np.testing.assert_allclose(found, of_main.reindex(found.index))


def test_rank_figures_are_drawn_at_the_extremes():
    table = rank_table(members([[0.9, 0.8, 0.7, 0.6]] * 3))
    between = table[table["ratio"] == 1].assign(ratio=5.0)
    with figure_style():
        figures = rank_figures(pd.concat([table, between]), INFOS)
        nothing = rank_figures(table[:0], INFOS)
        mended = [replace(INFOS[-1], repair="loss ldam"), *INFOS[:-1]]
        with_repair = rank_figures(table, mended)
    assert nothing == []
    assert [figure.name for figure in figures] == ["ranks_ratio_1", "ranks_ratio_10"]
    assert "n = 3 seeds" in figures[0].caption
    assert "claims leave them out" not in figures[0].caption
    assert "claims leave them out" in with_repair[0].caption
    shown = texts(figures[0])
    assert "CD = 2.71" in shown
    assert [t for t in shown if t.endswith(("dense  1.00", "fine-tuned  2.00"))] != []


def test_a_test_that_so_few_seeds_could_not_decide_is_not_told_as_decided():
    """Two seeds and three pipelines: the least p is exp(-2), as of 4 by chi square of 2."""
    few = members([[0.9, 0.8, 0.7, np.nan]] * 2)
    with figure_style():
        (figure, _) = rank_figures(rank_table(few), INFOS)
    assert [t for t in texts(figure) if "Friedman undecided (n), k = 3, n = 2 seeds" in t]


def test_a_diagram_shows_ranks_bars_and_the_difference():
    ranks = [1.2, 1.4, 3.0, 4.4, 5.0]
    places = [Place(f"pipeline {i}", rank, "#0072b2") for i, rank in enumerate(ranks)]
    with figure_style():
        canvas = Canvas(figsize=(9, 3), layout="constrained")
        axes = canvas.subplots()
        critical_difference_diagram(axes, places, 2.1, [(1.2, 3.0), (3.0, 5.0)])
        canvas.draw_without_rendering()
        lines = [(tuple(line.get_xdata()), line.get_ydata()) for line in axes.lines]
        boxes = [Text.get_window_extent(text) for text in axes.texts]
        names = [text for text in axes.texts if "pipeline" in text.get_text()]
        frame = canvas.bbox
    level = [x for x, y in lines if len(set(y)) == 1]
    assert {(1, 5), (1, 3.1), (1.2, 3.0), (3.0, 5.0)} <= set(level)
    assert [x[0] for x, _ in lines if len(x) == 3] == ranks
    left = [text.get_text() for text in names if text.get_ha() == "right"]
    assert left == ["pipeline 0  1.20", "pipeline 1  1.40", "pipeline 2  3.00"]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(frame.fully_contains(*corner) for box in boxes for corner in box.corners())
