"""Figures over stored size: what is drawn, and labels that cover nothing."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from rcm.analysis.statistics import PipelineInfo
from rcm.report.labels import place_labels
from rcm.report.sizes import CROWDED, robustness_figure, size_figure
from rcm.report.style import figure_style, fix_layout

FRONT_COLUMNS = ["ratio", "pipeline", "objectives", "on_front", "membership", "n"]
NO_FRONTS = pd.DataFrame(columns=pd.Index(FRONT_COLUMNS)).astype({"ratio": float})


@pytest.mark.parametrize(("spread", "half"), [(1, 0.02), (0.02, 0.02), (0.02, 0.3), (0, 0.02)])
def test_labels_do_not_overlap(spread, half):
    """Points apart, close together, between tall intervals where no leader is free, and as one,
    whose names stand in one label, the topmost first."""
    rng = np.random.default_rng(0)
    x, y = 0.5 + spread * rng.uniform(-0.5, 0.5, (2, 12))
    with figure_style():
        canvas = Canvas(figsize=(9, 4), layout="constrained")
        axes = canvas.subplots()
        axes.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
        fix_layout(canvas)
        names = [f"pipeline {i}" for i in range(12)]
        stacked = place_labels(axes, x, y, np.full(12, half), names)
        canvas.draw_without_rendering()
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the leader
        frame = axes.get_window_extent()
    overlaps = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    lines = [text.get_text().split("\n") for text in axes.texts]
    assert sorted(name for stack in lines for name in stack) == sorted(names)
    assert stacked == (spread < 1) == any(len(stack) > 1 for stack in lines)
    heights = [[y[names.index(name)] for name in stack] for stack in lines]
    assert heights == [sorted(stack, reverse=True) for stack in heights]
    assert len(lines) > 1 or not spread
    assert overlaps == 0
    assert all(frame.fully_contains(*corner) for box in boxes for corner in box.corners())


def test_labels_longer_than_their_axes_are_still_apart():
    with figure_style():
        canvas = Canvas(figsize=(1, 1), layout="constrained")
        axes = canvas.subplots()
        fix_layout(canvas)
        place_labels(axes, [0.5, 0.5], [0.5, 0.6], [0, 0], ["a pipeline with a long name"] * 2)
        canvas.draw_without_rendering()
        first, second = (Text.get_window_extent(text) for text in axes.texts)
    assert not first.overlaps(second)


def test_a_leader_does_not_run_through_another_point():
    """Points of the class-imbalance study at ratio 100: a long name, a tall interval beside it."""
    x = np.array([7.9, 9.2, 9.3, 10.4, 18.3, 18.7])
    y, half = np.array([42.0, 40.5, 28.6, 43.1, 35.1, 42.9]), [1.7, 6.3, 3.3, 2.6, 1.7, 2.3]
    names = ["prune50_cluster16_int8", "int4", "prune90", "cluster16", "resnet8_w4", "int8"]
    with figure_style():
        canvas = Canvas(figsize=(8.3, 2.7), layout="constrained")
        axes = canvas.subplots()
        axes.set(xlim=(5.4, 103), ylim=(23, 49), xscale="log")
        fix_layout(canvas)
        place_labels(axes, x, y, np.array(half), names)
        low, high = axes.transData.transform([(9.2, 34.2), (9.2, 46.8)])
        [label] = [text for text in axes.texts if text.get_text() == names[0]]
        canvas.draw_without_rendering()
        drawn = label.arrow_patch.get_path().vertices
    leader = np.linspace(drawn[0], drawn[-1], 200)
    beside = np.abs(leader[:, 0] - low[0]) < 2
    assert not np.any(beside & (leader[:, 1] > low[1]) & (leader[:, 1] < high[1]))


def test_robustness_is_drawn_at_the_middle_radius_and_for_every_domain():
    infos = [PipelineInfo("dense", "dense", "dense"),
             PipelineInfo("int4", "int4", "post_training", "dense", "dense")]  # fmt: skip
    names, about = [info.name for info in infos], {"lo": np.nan, "hi": np.nan, "n": 1, "ratio": 1}
    main = pd.DataFrame([{"pipeline": n, "quantity": "bytes", "mean": 50.0} for n in names])
    places = [("pgd20", 4), *(("worst", eps) for eps in (1, 2, 4, 8)), ("stl10", 0)]
    places += [("worst_l2", eps) for eps in (32, 64, 128)]
    robust = pd.DataFrame(
        [
            {"pipeline": n, "shift": s, "severity": e, "quantity": "shifted_accuracy", "mean": 30.0}
            for n in names
            for s, e in places
        ]
    )
    with figure_style():
        figure = robustness_figure(main.assign(**about), robust.assign(**about), NO_FRONTS, infos)
        nothing = robustness_figure(
            main.assign(**about), robust.assign(**about)[:0], NO_FRONTS, infos
        )
    assert nothing is None
    texts = [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.text]
    titles = [text for text in texts if "stl10" in text or "eps" in text]
    assert titles == ["worst, eps 2/255", "stl10", "worst_l2, eps 64/255"]
    assert texts.count("int4") == 3


def test_a_crowd_without_techniques_is_drawn_in_one_panel():
    infos = [PipelineInfo(f"net{i}", f"net{i}", "trained") for i in range(20)]
    rows = [
        {"ratio": 1, "pipeline": info.name, "quantity": quantity, "mean": 50.0 + i}
        for i, info in enumerate(infos)
        for quantity in ("accuracy", "bytes")
    ]
    with figure_style():
        rows = pd.DataFrame(rows).assign(lo=np.nan, hi=np.nan, n=1)
        figure = size_figure(rows, NO_FRONTS, infos)
    assert figure.svg.count(b">net") == 20


def test_names_that_every_panel_would_repeat_are_numbers_with_a_key():
    """Of a crowd in three domains, one family: in two domains they are names."""
    infos = [PipelineInfo(f"net{i}", f"net {i}", "trained") for i in range(CROWDED + 1)]
    main, found = (
        pd.DataFrame(
            {"pipeline": p.name, "shift": shift, "severity": 0, "quantity": quantity,
             "mean": 20.0 + i, "lo": np.nan, "hi": np.nan, "n": 3, "ratio": 1}
            for i, p in enumerate(infos) for shift in ("stl10", "svhn", "usps")
        )
        for quantity in ("bytes", "shifted_accuracy")
    )  # fmt: skip
    with figure_style():
        many = robustness_figure(main, found, NO_FRONTS, infos)
        few = robustness_figure(main, found[found["shift"] != "usps"], NO_FRONTS, infos)
    shown, names = (
        [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.text]
        for figure in (many, few)
    )
    for number, info in enumerate(infos, start=1):
        assert shown.count(f"{number}  {info.label}") == 1
        assert info.label not in shown
        assert names.count(info.label) == 2
    assert "numbers" in many.caption
    assert "numbers" not in few.caption


def test_many_pipelines_are_shown_by_family_beside_their_references():
    made = {"prune": 9, "quantize": 7, "cluster": 1, "new": 1}
    infos = [
        PipelineInfo("dense", "dense", "dense"),
        PipelineInfo("finetune", "finetune", "control", "dense", "dense"),
        PipelineInfo("both", "both", "trained", "finetune", "dense", ("prune", "cluster")),
    ]
    for kind, count in made.items():
        names = [f"{kind}{i}" for i in range(count)]
        infos += [PipelineInfo(n, n, "trained", "finetune", "dense", (kind,)) for n in names]
    values = {"accuracy": 60.0, "bytes": 90.0}
    rows = [
        {"ratio": 1, "pipeline": info.name, "quantity": quantity, "mean": value + 3 * i}
        for i, info in enumerate(infos)
        for quantity, value in values.items()
    ]
    with figure_style():
        rows = pd.DataFrame(rows).assign(lo=np.nan, hi=np.nan, n=1)
        figure = size_figure(rows, NO_FRONTS, infos)
    assert figure
    texts = [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.text]
    families = [text.split(": ")[1] for text in texts if text.startswith("imbalance ratio")]
    assert families == ["several techniques", "pruning", "quantization", "clustering", "new"]
    for info in infos:
        assert texts.count(info.name) == (1 if info.techniques else len(families))
