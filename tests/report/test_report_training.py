"""Training curves: by ratio and network, who diverged, and what very many seeds are drawn as."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.statistics import PipelineInfo
from rcm.report import training as drawing
from rcm.report.style import figure_style
from rcm.report.training import training_figures

DENSE = [PipelineInfo("dense", "dense", "dense")]


def texts(figure):
    return [node.text for node in ElementTree.fromstring(figure.svg).iter() if node.text]


def training(diverged=""):
    rows = [
        {"stage": stage, "pipeline": pipeline, "ratio": ratio, "seed": seed, "step": step,
         "loss": 2.0 / step, "accuracy": 0.01 * step,
         "status": "diverged" if stage == diverged and seed == 1 else "ok"}
        for stage, pipeline in (("dense", "dense"), ("prune 50%", ""))
        for ratio in (1, 10)
        for seed in (0, 1, 2)
        for step in (5, 10, 15)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_training_is_drawn_by_ratio_and_names_who_diverged():
    with figure_style():
        [figure], [lost], [later] = (
            training_figures(training(stage), DENSE) for stage in ("", "dense", "prune 50%")
        )
    shown = texts(figure)
    assert [t for t in shown if t.startswith("imbalance")] == [
        "imbalance ratio 1", "imbalance ratio 10",
    ]  # fmt: skip
    assert "n = 3" in figure.caption
    assert "No member with a curve diverged" in figure.caption
    assert sum("seed 1 diverged" in text for text in texts(lost)) == 4  # two ratios, two rows
    assert "dense (ratio 10, seed 1)" in lost.caption
    assert not any("diverged" in text for text in texts(later))
    assert "Diverged: prune 50% (ratio 1, seed 1)" in later.caption


def test_the_training_of_every_network_that_others_were_made_of_is_drawn():
    """Not that of a control, which nothing was made of."""
    table = pd.concat(
        [training(), *(training().assign(pipeline=name) for name in ("wide", "resnet8_w4"))]
    )
    infos = [
        *DENSE,
        PipelineInfo("wide", "the wide one", "control", "dense", "dense"),
        PipelineInfo("resnet8_w4", "alone", "control", "dense", "dense"),
        PipelineInfo("wide_int8", "int8", "post_training", "wide", "wide"),
    ]
    with figure_style():
        [figure] = training_figures(table, infos)
    assert [t for t in texts(figure) if "imbalance" in t] == [
        "dense, imbalance ratio 1", "dense, imbalance ratio 10",
        "the wide one, imbalance ratio 1", "the wide one, imbalance ratio 10",
    ]  # fmt: skip


def test_seeds_without_a_curve_are_counted_with_the_reason():
    table = training("dense")  # of seed 1, which has no results
    with figure_style():
        [complete], [partial] = (training_figures(table, DENSE, measured) for measured in (2, 6))
    assert "(n = 3 seeds)" in complete.caption
    assert "n = 3 seeds; of 4 more there are results" in partial.caption
    assert "kept no training curve" in partial.caption


def test_without_a_history_there_is_no_training_figure():
    assert training_figures(pd.DataFrame(), DENSE) == []
    assert training_figures(training()[:0], DENSE) == []


def test_of_very_many_seeds_their_middle_is_drawn_and_the_diverged_ones_by_name(monkeypatch):
    """Losses of seeds 0 to 100 are their own numbers; 100, which diverged, is far off them all."""
    losses = np.append(np.arange(100.0), 1e6)
    table = pd.DataFrame(
        {"stage": "dense", "pipeline": "dense", "ratio": 1, "seed": seed, "step": step,
         "loss": loss, "accuracy": 0.5, "status": "diverged" if seed == 100 else "ok"}
        for seed, loss in enumerate(losses) for step in (5, 10)
    )  # fmt: skip
    monkeypatch.setattr(drawing, "finish", lambda *made: made)
    with figure_style():
        [(_, _, caption, canvas)] = training_figures(table, DENSE)
    axes = canvas.axes[0]
    middle = axes.lines[0].get_ydata()
    shaded, lost = axes.collections
    assert middle == pytest.approx([49.5, 49.5])
    assert sorted(set(shaded.get_paths()[0].vertices[:, 1])) == pytest.approx([4.95, 94.05])
    assert len(lost.get_paths()) == 1
    assert [text.get_text() for text in axes.texts] == [" seed 100 diverged"]
    assert "middle 90 %" in caption
    assert "a line per seed" not in caption
