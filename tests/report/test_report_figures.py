"""Figures open, are not empty, follow the theme, and say n and interval in their captions."""

import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rcm.analysis.statistics import PipelineInfo
from rcm.report.effective import effective_figure
from rcm.report.figures import all_figures
from rcm.report.gallery import Picture, exemplar_figures
from rcm.report.style import (
    DARK,
    KIND_COLOURS,
    cut_words,
    figure_style,
    percent_arms,
    themed,
)
from rcm.report.tables import all_tables
from rcm.report.training import training_figures

EXPECTED = {
    "did", "gap", "recall_change", "accuracy_vs_size", "corruptions_ratio_1",
    "corruptions_ratio_10", "corruptions_ratio_100", "ranks_ratio_1", "ranks_ratio_100",
    "severities_ratio_1", "severities_ratio_100",
}  # fmt: skip


def test_every_png_opens_and_shows_something(report):
    assert set(report.figures) == EXPECTED
    for png in report.figures.values():
        with Image.open(io.BytesIO(png)) as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("L"))
        assert min(pixels.shape) > 400
        assert 0.001 < (pixels < 200).mean() < 0.8
        assert (pixels[:3] == 255).mean() > 0.5  # on white paper


@pytest.fixture(scope="module")
def few(frame, pipelines):
    """Figures of a study with four pipelines, two ratios and two data sets."""
    names = ("dense", "finetune", "prune_90", "int8")
    part = frame[frame["pipeline"].isin(names) & (frame["ratio"] != 10)]
    both = pd.concat([part, part.assign(dataset="digits")])
    return all_figures(all_tables(both, pipelines), pipelines)


DENSE = PipelineInfo("dense", "dense", "dense")


@pytest.fixture(scope="module")
def every(few):
    """Those, and the figures of a study whose forgotten images and training are known."""
    place = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0, "shift": "clean",
             "severity": 0.0}  # fmt: skip
    infos = [
        PipelineInfo(name, name, "trained", "dense", "dense") for name in ("one", "other", "third")
    ]
    names = [info.name for info in infos]
    rates = [
        place | {"pipeline": name, "n": 5, "images": 90, "rate": 0.1, "null": 0.08}
        for name in names
    ]
    means = [
        place | {"pipeline": name, "quantity": what, "mean": 10.0, "lo": 8.0, "hi": 12.0, "n": 5}
        for name in names
        for what in ("rate", "excess")
    ]
    overlap = [
        place | {"pipeline": a, "other": b, "jaccard": 0.5, "lo": 0.4, "hi": 0.6, "by_chance": 0.1}
        for a in names
        for b in names
    ]
    tables = {"exemplars": rates, "exemplar_means": means, "exemplar_overlap": overlap}
    tables = {name: pd.DataFrame(rows) for name, rows in tables.items()}
    picture = Picture(np.zeros((4, 4, 3), np.uint8), "cat", ("cat", 1.0, 0.9), ("dog", 0.6, 0.4))
    curve = {"stage": "dense", "pipeline": "dense", "ratio": 1.0, "loss": 1.0, "accuracy": 0.5}
    training = [
        curve | {"seed": s, "step": step, "status": "ok"} for s in (0, 1) for step in (1, 2)
    ]
    with figure_style():
        curves = training_figures(pd.DataFrame(training), [DENSE, *infos], measured=5)
    return [*few, *exemplar_figures(tables, infos, {"one": [picture]}), *curves]


def test_captions_state_n_and_interval(few, every):
    """Of the synthetic study, and of one of populations with a training curve."""
    assert {"gap", "forgotten", "overlap", "training"} <= {f.name.split("_")[0] for f in every}
    for figure in every:
        assert re.search(r"n = [\d,]+ seeds", figure.caption), figure.name
        assert "95 %" in figure.caption or re.search("(no|without) intervals", figure.caption)
    for figure in few:
        assert "n = 3 seeds" in figure.caption


def test_blocks_get_figures_of_their_own(few):
    names = [figure.name for figure in few]
    assert len(names) == len(set(names)) == 2 * len(EXPECTED - {"corruptions_ratio_10"})
    assert "gap_digits-resnet8-exp" in names
    assert any("digits" in figure.title for figure in few)


def test_svgs_are_well_formed_and_follow_the_theme(few):
    for figure in few:
        ElementTree.fromstring(figure.svg)
        svg = themed(figure.svg)
        ElementTree.fromstring(svg)
        text = svg.decode()
        assert "prefers-color-scheme: dark" in text
        body = text.split("</style>", 1)[1]
        assert not [colour for colour in DARK if f": {colour}" in body]


def test_themed_keeps_other_colours():
    svg = b'<svg><defs></defs><path style="fill: #1c2126; stroke: #fcfcfc"/></svg>'
    assert b'style="fill: var(--c1c2126); stroke: #fcfcfc"' in themed(svg)


def test_a_hundred_classes_and_one_ratio_are_drawn(frame, pipelines):
    part = frame[frame["pipeline"].isin(("dense", "int8")) & (frame["ratio"] == 1)]
    part = part[part["severity"] == 0]
    recall = part[part["metric"].isin(("recall", "train_count"))]
    copies = [
        recall.assign(cls=(recall["cls"].astype(int) + 10 * i).astype(str)) for i in range(1, 10)
    ]
    figures = all_figures(all_tables(pd.concat([part, *copies]), pipelines), pipelines)
    assert {figure.name for figure in figures} == {"recall_change", "accuracy_vs_size"}


def test_the_users_matplotlib_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    with figure_style():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert dict(matplotlib.rcParams) == before


def test_intervals_of_percentages_end_where_percentages_do():
    table = pd.DataFrame({"mean": [5.0, 50, 98, 0, 100, 70]})
    table["lo"], table["hi"] = table["mean"] - [9, 9, 5, 1, 1, np.nan], table["mean"] + 9
    table["hi"] = 2 * table["mean"] - table["lo"]
    below, above = percent_arms(table)
    np.testing.assert_allclose(below, [5, 9, 5, 0, 1, 0])
    np.testing.assert_allclose(above, [9, 9, 2, 1, 0, 0])
    assert "where percentages do" in cut_words(table.iloc[[0]])
    assert "where percentages do" in cut_words(table.iloc[[2]])
    assert cut_words(table.iloc[[1, 5]]) == ""


def test_colours_are_colour_blind_safe():
    okabe_ito = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    chromatic = [KIND_COLOURS[kind] for kind in ("trained", "post_training", "student")]
    assert set(chromatic) < okabe_ito


def test_enough_dense_networks_give_a_figure_of_effective_robustness(frame, pipelines):
    """One row of panels per ratio; the table and the figure know the same lines."""
    less = frame[frame["pipeline"] == "finetune"]
    budgets = [
        less.assign(pipeline=name, value=less["value"] - missing)
        for name, missing in (("half", 0.1), ("quarter", 0.2))
    ]
    more = [PipelineInfo(name, name, "control", "dense", "dense") for name in ("half", "quarter")]
    tables = all_tables(pd.concat([frame, *budgets]), [*pipelines, *more])
    assert len(tables["dense_lines"]) == 3
    with figure_style():
        figure = effective_figure(tables["main"], tables["dense_lines"], [*pipelines, *more])
    assert figure.name == "effective_robustness"
    assert "n = 3 seeds" in figure.caption
    assert "95 %" in figure.caption
    assert figure.svg.count(b"effective robustness, points") == 3
