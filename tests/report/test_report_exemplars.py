"""Forgotten images and classes on the page: what the sections say, and the figures that show it."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.by_class import class_excess
from rcm.analysis.statistics import PipelineInfo
from rcm.report.exemplar_rates import rates_figure
from rcm.report.exemplars import exemplar_sections
from rcm.report.gallery import Picture, exemplar_figures
from rcm.report.layout import MINUS, NONE
from rcm.report.style import figure_style
from rcm.report.tables import FORGOTTEN

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("again", "other seeds", "replica", "dense", "dense"),
    PipelineInfo("prune", "prune 90 %", "trained", "dense", "dense"),
]
BLOCK = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0}
CLEAN = BLOCK | {"shift": "clean", "severity": 0.0}


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    rates = [
        CLEAN | {"pipeline": "again", "n": 10, "images": 2000, "rate": 0.05, "tied": 0.01,
                 "taxicab": 0.1, "null": 0.048, "null_upper": 0.06, "p": 0.4,
                 "least_p": 1 / 201, "taxicab_overlap": 0.25},
        CLEAN | {"pipeline": "prune", "n": 10, "images": 2000, "rate": 0.12, "tied": 0.02,
                 "taxicab": 0.3, "null": 0.09, "null_upper": 0.1, "p": 0.0004,
                 "independent_rate": 0.13, "independent_null": 0.05, "independent_p": 0.005,
                 "independent_least_p": 0.005, "least_p": 0.002, "taxicab_overlap": 0.1},
    ]  # fmt: skip
    means = [
        CLEAN | {"pipeline": "prune", "quantity": quantity, "baseline": "", "unit": "percent",
                 "mean": mean, "lo": mean - 2, "hi": mean + 2, "n": 10, "note": "",
                 "null": np.nan}
        for quantity, mean in (("rate", 12.0), ("excess", 7.0), ("dense on them", 41.0))
    ]  # fmt: skip
    fog = {"shift": "fog", "severity": 3.0}
    means.append(means[0] | fog | {"mean": 20.0})
    means.append(means[0] | fog | {"quantity": "overlap", "mean": 40.0, "null": 30.0})
    harm = {"impacted": 4, "classes": 10, "by_chance": 0.5, "impacted_bh": 2, "untested": 0}
    harm |= {"impacted_paired_bh": 3, "worst": -6.5, "worst_class": "3"}
    overlap = [
        CLEAN | {"pipeline": one, "other": two, "jaccard": 1.0 if one == two else 0.25,
                 "lo": 0.2, "hi": 0.3, "by_chance": 0.03}
        for one in ("again", "prune") for two in ("again", "prune")
    ]  # fmt: skip
    groups = [
        CLEAN | {"pipeline": "prune", "group": group, "share": share, "images": images}
        for group, share, images in (("tail", 0.5, 0.3), ("head", 0.2, 0.3))
    ]
    shifts = BLOCK | {"severity": 3.0, "pipeline": "prune", "jaccard": 0.35, "lo": 0.3, "hi": 0.4,
                      "by_chance": 0.05, "null": 0.2, "pairs": 2}  # fmt: skip
    doubt = CLEAN | {"pipeline": "prune", "doubt": "replica", "above": 0.81, "p": 1e-9}
    return {
        **{name: pd.DataFrame() for name in FORGOTTEN},
        "exemplars": pd.DataFrame(rates),
        "exemplar_means": pd.DataFrame(means),
        "exemplar_overlap": pd.DataFrame(overlap),
        "exemplar_groups": pd.DataFrame(groups),
        "class_recall": pd.DataFrame({"ratio": 100.0, "train_count": [500.0, 5.0]}),
        "exemplar_shift_means": pd.DataFrame([shifts]),
        "exemplar_doubt": pd.DataFrame([doubt]),
        "harm": pd.DataFrame([BLOCK | {"pipeline": "prune", "n": 10} | harm,
                              BLOCK | {"pipeline": "again", "n": 3} | harm]),
    }  # fmt: skip


def test_every_rate_stands_beside_its_null(tables):
    sections = {one.title: one for one in exemplar_sections(tables, PIPELINES)}
    assert list(sections) == ["Forgotten images", "Accuracy on exemplars", "Overlap of exemplars",
                              "Exemplars by frequency of their class",
                              "Exemplars among shifted images", "Overlap between corruptions",
                              "Doubtful images", "Harmed classes"]  # fmt: skip
    rates = dict(sections["Forgotten images"].rows)
    assert "n = 10, 2,000 images" in sections["Forgotten images"].guide
    rate, swapped, independent, null, beyond, _ = rates["prune 90 %"]
    assert (rate.value, rate.margin, rate.note) == ("12.00", "±2.0", "2.0 % tied")
    assert (beyond.value, beyond.margin, beyond.strong) == ("+7.0", "±2.0", True)
    assert (swapped.value, swapped.note) == ("9.00", "p < 0.001")
    assert (independent.value, independent.strong) == ("13.00", True)
    assert (null.value, null.note) == ("5.00", "p = 0.005")
    assert [cell.value for cell in rates["other seeds"]][2:5] == [NONE, NONE, NONE]
    accuracy = sections["Accuracy on exemplars"]
    assert accuracy.heads == ["dense on them"]
    (dense,) = accuracy.rows[0][1]
    assert (dense.value, dense.strong) == ("41.0", False)
    overlap = sections["Overlap of exemplars"]
    assert overlap.heads == ["with other seeds"]
    ((label, (cell,)),) = overlap.rows  # every pair once
    assert (label, cell.value, cell.note) == ("prune 90 %", "25.0", "3.0 by chance")
    frequencies = sections["Exemplars by frequency of their class"]
    even = tables | {"class_recall": tables["class_recall"].assign(train_count=500.0)}
    assert frequencies.title not in [one.title for one in exemplar_sections(even, PIPELINES)]
    assert frequencies.heads == ["head", "tail"]
    head, tail = frequencies.rows[0][1]
    assert (head.value, tail.value, tail.note) == ("20.0", "50.0", "of 30.0")
    shifted = sections["Exemplars among shifted images"]
    assert shifted.heads == ["fog 3: rate", "fog 3: overlap"]
    assert [cell.note for cell in shifted.rows[0][1]] == ["", "30.0 dense again"]
    between = sections["Overlap between corruptions"].rows[0][1]
    assert [cell.value for cell in between] == ["35.0", "5.0", "20.0"]
    assert [cell.margin for cell in between] == ["±5.0", "", ""]
    assert sections["Doubtful images"].rows[0][1][0].value == "81.0"
    harm = dict(sections["Harmed classes"].rows)
    assert list(harm) == ["prune 90 %"]  # three members are no population
    assert [cell.value for cell in harm["prune 90 %"]] == [
        "4 of 10",
        "0.5",
        "2",
        "3",
        f"{MINUS}6.5",
    ]


def test_the_section_says_why_classes_are_not_counted(tables):
    """Only where some are not; a population too small to be shown has no say."""
    harm = tables["harm"]
    small = harm["pipeline"] == "again"
    for untested, words in ((np.where(small, 0, 2), "of up to 2 of"), (0, "")):
        own = tables | {"harm": harm.assign(untested=untested, classes=8)}
        [section] = [one for one in exemplar_sections(own, PIPELINES) if "Harmed" in one.title]
        assert section.rows[0][1][0].value == "4 of 8"
        assert words in section.guide
        assert ("Not all classes are counted" in section.guide) == bool(words)
    alone = tables | {"harm": harm.assign(untested=small.astype(int))}
    [section] = [one for one in exemplar_sections(alone, PIPELINES) if "Harmed" in one.title]
    assert "Not all" not in section.guide


def test_figures_of_populations(tables):
    image = np.zeros((8, 8, 3), np.uint8)
    picture = Picture(image, "cat", ("cat", 0.9, 0.71), ("dog", 0.8, 0.55))
    shown = {"prune 90 %": [picture] * 10, "nothing": []}
    rates, overlap, gallery = exemplar_figures(tables, PIPELINES, shown)
    names = [figure.name for figure in (rates, overlap, gallery)]
    assert names == ["exemplar_rates", "overlap", "forgotten"]
    assert "3.0 to 3.0 %" in overlap.caption
    for figure in (overlap, gallery):
        assert "n = 10 seeds, 2,000 test images" in figure.caption
    assert "no intervals" in gallery.caption
    assert "95 % interval over draws of members" in overlap.caption
    assert "90%, 0.71" in gallery.svg.decode()
    assert "share of members that give it, and their mean confidence" in gallery.caption
    text = gallery.svg.decode()
    assert text.count("dog") == 8  # as many as fit
    assert "nothing" not in text
    assert "cat" in text
    nothing = {name: pd.DataFrame() for name in (*FORGOTTEN, "exemplar_means")}
    assert exemplar_figures(nothing, PIPELINES, {}) == []


def test_rates_stand_beside_swapped_ones_and_beyond_dense(tables):
    with figure_style():
        both = rates_figure(tables["exemplars"], tables["exemplar_means"], PIPELINES)
        means = tables["exemplar_means"]
        alone = rates_figure(tables["exemplars"], means[means["quantity"] != "excess"], PIPELINES)
    assert both is not None
    assert alone is not None
    assert "beyond dense" in both.svg.decode()
    assert "beyond dense" not in alone.svg.decode()
    assert "Populations of n = 10 seeds, 2,000 images" in both.caption


def test_excess_by_class_is_what_corruption_takes_beyond_the_parents_loss():
    """The dense lose 10 points of class 0 and 20 of class 1, the pruned 15 and 20; a member that
    lacks a severity is left out."""
    rows = []
    for seed in range(2):
        for pipeline, losses in (("dense", (0.1, 0.2)), ("prune", (0.15, 0.2))):
            where = BLOCK | {"seed": seed, "pipeline": pipeline, "status": "ok", "metric": "recall"}
            for c, loss in enumerate(losses):
                clean = where | {"shift": "clean", "severity": 0.0, "cls": str(c), "value": 0.8}
                rows.append(clean)
                rows += [
                    clean | {"shift": "fog", "severity": s, "value": 0.8 - loss + sign * 0.05}
                    for s, sign in ((1.0, 1), (3.0, -1))
                    if (seed, pipeline, s) != (1, "prune", 3.0)
                ]
    table = class_excess(pd.DataFrame(rows), PIPELINES).set_index("cls")
    assert table["mean"].to_dict() == pytest.approx({"0": 5.0, "1": 0.0})
    assert set(table["n"]) == {1}


def test_members_too_few_for_a_small_p_are_undecided(tables):
    """The swaps of five; more splits of ten are enough."""
    few = tables["exemplars"].assign(n=5, least_p=1 / 16)
    [section] = [
        one for one in exemplar_sections(tables | {"exemplars": few}, PIPELINES)
        if one.title == "Forgotten images"
    ]  # fmt: skip
    (_, again), (_, prune) = section.rows
    assert again[1].note == prune[1].note == "undecided, n = 5"
    assert prune[3].note == "p = 0.005"
