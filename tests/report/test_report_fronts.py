"""Fronts in the figures of accuracy against size: the line's corners and the marks by hand."""

import itertools
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from rcm.analysis.statistics import PipelineInfo
from rcm.analysis.tradeoffs import fronts, objectives
from rcm.report import sizes
from rcm.report.fronts import front_steps, front_words, with_front
from rcm.report.labels import place_labels
from rcm.report.sizes import robustness_figure, size_figure
from rcm.report.style import KIND_MARKERS, figure_style, fix_layout

NAMES = ["dense", "half", "tiny"]
INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("half", "half", "trained", "dense", "dense"),
    PipelineInfo("tiny", "tiny", "trained", "dense", "dense"),
]


def table(objective, on_front, membership, n=3):
    rows = zip(NAMES, on_front, membership, strict=True)
    columns = ["pipeline", "on_front", "membership"]
    made = pd.DataFrame(rows, columns=pd.Index(columns))
    return made.assign(ratio=1.0, objectives=objective, n=n)


def estimated(quantity, means, **more):
    about = {"ratio": 1.0, "lo": np.nan, "hi": np.nan, "n": 3} | more
    rows = zip(NAMES, means, strict=True)
    return pd.DataFrame([{"pipeline": n, "mean": m, "quantity": quantity} for n, m in rows]).assign(
        **about
    )


MAIN = pd.concat([estimated("bytes", (80.0, 40.0, 10.0)), estimated("accuracy", (70.0, 72, 60))])


def test_steps_go_up_where_the_next_larger_one_stands():
    points = pd.DataFrame(
        {"size": [40.0, 10, 20, 80], "mean": [72.0, 60, 50, 75], "on_front": [True, True, False, 1]}
    ).astype({"on_front": bool})
    steps = [[10, 60], [40, 60], [40, 72], [80, 72], [80, 75]]
    np.testing.assert_array_equal(front_steps(points), steps)
    assert front_steps(points[2:]).size == 0  # one alone on the front


def test_marks_are_as_full_as_they_are_sure():
    points = pd.DataFrame({"pipeline": [*NAMES, *NAMES], "ratio": 1.0, "size": 1.0, "mean": 1.0})
    points["panel"] = points["objectives"] = ["accuracy"] * 3 + ["elsewhere"] * 3
    found, own = with_front(points, table("accuracy", (False, True, True), (0.25, 0.75, 1.0)))
    assert found["fill"].tolist()[:3] == [0.25, 0.75, 1]
    assert found["fill"].isna().tolist() == [False] * 3 + [True] * 3
    assert found["on_front"].tolist() == [False, True, True, False, False, False]
    assert len(own) == 3
    one_seed = table("accuracy", (False, True, True), [np.nan] * 3, n=1)
    assert with_front(points, one_seed)[0]["fill"].tolist()[:3] == [0, 1, 1]


def opacities(svg):
    found = [node.attrib.get("style", "") for node in ElementTree.fromstring(svg).iter()]
    return sorted(float(v) for v in re.findall(r"fill-opacity: ([\d.]+)", " ".join(found)))


def test_the_figure_shows_them_and_its_caption_says_how_they_were_drawn():
    with figure_style():
        figure = size_figure(MAIN, table("accuracy", (0, 1, 1), (0.25, 0.75, 1.0)), INFOS)
        without = size_figure(MAIN, table("recall_tail", (0, 1, 1), (0.25, 0.75, 1.0)), INFOS)
    assert opacities(figure.svg) == [0.25, 0.75]
    assert b"front; the fuller a mark, the surer" in figure.svg
    assert "no front" not in figure.caption
    for words in ("bootstrap", "n = 3 seeds", "2,000"):
        assert words in figure.caption
    assert opacities(without.svg) == []
    assert b"surer" not in without.svg
    assert "front" not in without.caption


def test_a_single_seed_gives_a_front_without_shares():
    words = front_words(table("accuracy", (0, 1, 1), [np.nan] * 3, n=1), True)
    assert "n = 1 seed" in words
    assert "bootstrap" not in words


def shifted(*places):
    return pd.concat(
        estimated("shifted_accuracy", (30.0, 40, 20), shift=shift, severity=eps)
        for shift, eps in places
    )


def test_the_worst_case_has_its_front_and_other_domains_have_none():
    """Nor does the key say that how full their marks are tells anything."""
    shares = table("robust_accuracy", (0, 1, 1), (0.5, 0.75, 0.875))
    with figure_style():
        figure = robustness_figure(MAIN, shifted(("worst", 4), ("stl10", 0)), shares, INFOS)
        alone = robustness_figure(MAIN, shifted(("worst", 4)), shares, INFOS)
    for drawn in (figure, alone):
        assert opacities(drawn.svg) == [0.5, 0.75, 0.875]
    assert b"front, where marks are large; the fuller" in figure.svg
    assert "Panels of small marks have no front" in figure.caption
    assert b"front; the fuller" in alone.svg
    assert "no front" not in alone.caption


def test_marks_in_panels_without_a_front_are_small_and_full():
    points = pd.DataFrame(
        {"pipeline": NAMES, "size": 1.0, "mean": 1.0, "lo": 0.0, "hi": 2.0, "on_front": False}
    )
    marks = {}
    for fill in (np.nan, 0.5):
        with figure_style():
            axes = Canvas().subplots()
            sizes._panel(axes, points.assign(fill=fill), INFOS)
        marks[fill] = [
            (line.get_markersize(), to_rgba(line.get_markerfacecolor())[3])
            for line in axes.lines
            if line.get_marker() in KIND_MARKERS.values()
        ]
        assert len(marks[fill]) == 3
    assert {opacity for _, opacity in marks[np.nan]} == {1}
    assert {opacity for _, opacity in marks[0.5]} == {0.5}
    assert max(marks[np.nan])[0] < min(marks[0.5])[0]


def test_what_is_drawn_is_what_the_trade_offs_say(frame, pipelines):
    """The front of the synthetic study by its own means, at every ratio."""
    found = fronts(objectives(frame, pipelines), pipelines)
    clean = frame[frame["metric"].isin(("accuracy", "bytes")) & (frame["shift"] == "clean")]
    means = clean.groupby(["ratio", "pipeline", "metric"])["value"].mean().unstack().reset_index()
    points = means.rename(columns={"bytes": "size", "accuracy": "mean"})
    points = points.assign(panel=points["ratio"], objectives="accuracy")
    drawn, _ = with_front(points, found)
    for _, part in drawn.groupby("ratio"):
        corners = front_steps(part)
        assert len(corners) > 3
        assert (np.diff(corners, axis=0) >= 0).all()
        for point in part[~part["on_front"]].itertuples():
            smaller = corners[corners[:, 0] <= point.size]
            assert smaller[:, 1].max() >= point.mean


@pytest.mark.parametrize("height", [0.3, 0.5, 0.7])
def test_labels_keep_clear_of_the_line(height):
    line = np.array([[0, height], [0.5, height], [0.5, 0.9], [1, 0.9]])
    x, y = [0.1, 0.5, 0.52], [height, height, height]
    with figure_style():
        canvas = Canvas(figsize=(6, 4), layout="constrained")
        axes = canvas.subplots()
        axes.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
        fix_layout(canvas)
        place_labels(axes, x, y, np.zeros(3), ["first", "second", "third"], line)
        canvas.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the leader
        corners = axes.transData.transform(line)
    assert len(boxes) == 3
    for box in boxes:
        for start, end in itertools.pairwise(corners):
            along = start + np.linspace(0, 1, 400)[:, None] * (end - start)
            assert not box.count_contains(along)


def controlled(base, *short):
    """The three pipelines, the control of one of them, and others of less training."""
    controls = [PipelineInfo("base", "base", "control", "dense", "dense")]
    controls += [PipelineInfo(f"short{i}", f"short {i}", "control", "dense", "dense")
                 for i in range(len(short))]  # fmt: skip
    rows = [
        {"pipeline": p.name, "quantity": quantity, "mean": value}
        for p, mean in zip(controls, (base, *short), strict=True)
        for quantity, value in (("bytes", 80.0), ("accuracy", mean))
    ]
    main = pd.concat([MAIN, pd.DataFrame(rows).assign(ratio=1.0, lo=np.nan, hi=np.nan, n=3)])
    infos = [INFOS[0], replace(INFOS[1], baseline="base"), INFOS[2], *controls]
    none = table("accuracy", (0, 0, 0), (0.0, 0.0, 0.0))[:0]
    with figure_style():
        return size_figure(main, none, infos)


def test_short_trainings_far_below_leave_the_scale_and_are_named():
    """The others span 60 to 72 %: with 40 % the scale would be 2.7 times theirs."""
    figure = controlled(71.0, 40.0, 58.0)
    assert "Left out, far below: short 0 (40.0 %), short 1 (58.0 %)." in figure.caption
    assert b">short" not in figure.svg
    assert b">base<" in figure.svg


def test_what_squeezes_nothing_or_is_compared_with_stays():
    near = controlled(71.0, 50.0)
    assert "Left out" not in near.caption
    assert b">short 0<" in near.svg
    low = controlled(20.0)
    assert "Left out" not in low.caption
    assert b">base<" in low.svg


def test_members_of_other_seeds_stand_in_no_panel():
    """They are references of what is forgotten, and compete for no front."""
    replica = PipelineInfo("again", "again", "replica", "dense", "dense")
    more = MAIN[MAIN["pipeline"] == "dense"].assign(pipeline="again", mean=99.0)
    with figure_style():
        figure = size_figure(
            pd.concat([MAIN, more]), table("none", (0, 1, 1), (0, 1, 1)), [*INFOS, replica]
        )
    assert b"again" not in figure.svg
    assert b"other seeds" not in figure.svg
