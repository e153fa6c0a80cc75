"""Rows and tables of forgotten images: planted exemplars come out, and beside their null."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.exemplars import (
    Chosen,
    by_draw,
    chosen,
    exemplars,
    label_counts,
    overlap_by_member,
    tied,
    votes,
)
from rcm.analysis.forgotten import Answers, disagreement, exemplar_means, forgotten_rows
from rcm.analysis.forgotten_shifts import MEANS, PAIRS, middle, shift_overlaps
from rcm.analysis.forgotten_tables import (
    class_table,
    doubt_table,
    exemplar_table,
    group_table,
    overlap_table,
    populations,
)
from rcm.analysis.metrics import MemberInfo
from rcm.analysis.statistics import PipelineInfo, summarise

CLASSES, IMAGES, SEEDS = 5, 500, 6
PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("again", "again", "replica", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
    PipelineInfo("few", "few", "trained", "dense", "dense"),
]
INFO = MemberInfo("d", "m", "exp", 1, 0, "dense", "f", (5,) * CLASSES, 5, 10)
PLANTED = np.arange(IMAGES) % 25 == 0  # 4 %


@pytest.fixture(scope="module")
def answers() -> Answers:
    rng = np.random.default_rng(0)
    truth = np.arange(IMAGES) % CLASSES
    hard = rng.random(IMAGES) < 0.2

    def members(seeds) -> dict[int, np.ndarray]:
        wrong = (rng.random((seeds, IMAGES)) < 0.4) & hard & ~PLANTED
        labels = np.where(wrong, rng.integers(0, CLASSES, (seeds, IMAGES)), truth)
        return dict(enumerate(labels.astype(np.uint8)))

    labels = {"dense": members(SEEDS), "again": members(SEEDS), "prune": members(SEEDS)}
    for own in labels["prune"].values():
        own[PLANTED] = (truth[PLANTED] + 1) % CLASSES
    labels["few"] = members(3)
    del labels["prune"][5], labels["dense"][4]  # diverged
    labels["prune"][6] = labels["prune"][4]  # a seed whose parent is missing
    labels["dense"][7] = labels["dense"][0]
    labels["prune"][7] = labels["prune"][0]
    return Answers(labels, truth, CLASSES, ("d", "m", "exp", 1.0, "clean", 0.0))


def test_rows_are_paired_and_their_means_are_the_populations(answers):
    infos = {
        (name, seed): replace(INFO, pipeline=name, seed=seed)
        for name, members in answers.labels.items()
        for seed in members
    }
    doubt = {"planted": PLANTED.astype(float)}
    frame = pd.DataFrame(forgotten_rows(answers, infos, "dense", ["again"], doubt))
    assert set(frame["pipeline"]) == {"again", "prune"}  # three members are no population
    own = frame[frame["pipeline"] == "prune"]
    assert set(own["seed"]) == {0, 1, 2, 3, 7}
    means = own.groupby("metric")["value"].mean()
    pair = [
        label_counts(np.stack([answers.labels[n][s] for s in (0, 1, 2, 3, 7)]), CLASSES)
        for n in ("dense", "prune")
    ]
    chosen = exemplars(*pair)
    expected = PLANTED[chosen].mean() - PLANTED[~chosen].mean()
    assert means["exemplar_doubt"] == pytest.approx(expected)
    assert means["exemplar_rate"] == pytest.approx(exemplars(*pair).mean())
    assert means["exemplar_tied"] == pytest.approx((tied(pair[0]) | tied(pair[1])).mean())
    assert means["exemplar_excess"] == pytest.approx(0.04, abs=0.015)
    assert means["exemplar_accuracy"] < 0.5 < means["exemplar_parent_accuracy"]
    assert means["rest_accuracy"] == pytest.approx(means["rest_parent_accuracy"], abs=0.02)
    assert "exemplar_excess" not in set(frame[frame["pipeline"] == "again"]["metric"])


def test_exemplars_of_shifted_images_are_compared_with_the_same_images_exemplars(answers):
    """On every other image, as they were: all the same; with planted ones elsewhere: none of
    those."""
    infos = {
        (name, seed): replace(INFO, pipeline=name, seed=seed)
        for name, members in answers.labels.items()
        for seed in members
    }
    places = np.arange(0, IMAGES, 2)[::-1]
    moved = {name: {s: own[places].copy() for s, own in members.items()}
             for name, members in answers.labels.items()}  # fmt: skip
    fog = Answers(moved, answers.truth[places], CLASSES, ("d", "m", "exp", 1.0, "fog", 3.0))
    clean: dict = {}
    home = forgotten_rows(answers, infos, "dense", [], {}, (clean, np.arange(IMAGES)))
    assert not any(row["metric"] == "exemplar_overlap" for row in home)
    frame = pd.DataFrame(forgotten_rows(fog, infos, "dense", [], {}, (clean, places)))
    overlap = frame[frame["metric"] == "exemplar_overlap"]
    assert overlap[overlap["pipeline"] == "prune"]["value"].tolist() == [1.0] * 5
    for own in moved["prune"].values():
        own[:] = answers.truth[places]
    for own in moved["dense"].values():
        own[:] = answers.truth[places]
    chosen = np.flatnonzero(~PLANTED[places])[:7]
    for own in moved["prune"].values():
        own[chosen] = (answers.truth[places][chosen] + 2) % CLASSES
    frame = pd.DataFrame(forgotten_rows(fog, infos, "dense", [], {}, (clean, places)))
    own = frame[(frame["metric"] == "exemplar_overlap") & (frame["pipeline"] == "prune")]
    pair = [
        label_counts(np.stack([answers.labels[n][s] for s in (0, 1, 2, 3, 7)]), CLASSES)
        for n in ("dense", "prune")
    ]
    before = exemplars(*pair)[places]
    now = np.zeros_like(before)
    now[chosen] = True
    assert own["value"].mean() == pytest.approx((before & now).sum() / (before | now).sum())


def test_tables_of_populations(answers):
    found = populations(answers, PIPELINES)
    assert [one.pipeline.name for one in found] == ["again", "prune"]
    table = exemplar_table(answers, found, ["again"]).set_index("pipeline")
    assert table.loc["prune", "n"] == 5
    assert table.loc["prune", "exemplars"] == found[1].chosen.sum() >= PLANTED.sum()
    prune = table.loc["prune"]
    assert prune["independent_p"] == prune["independent_least_p"] == 1 / 127  # splits of ten
    assert prune["p"] >= prune["least_p"] == 1 / 16  # swaps of five
    assert table.loc["again", "p"] > 0.05
    assert np.isnan(table.loc["again", "independent_rate"])
    assert table.loc["prune", "shift"] == "clean"
    overlaps = overlap_table(answers, found).set_index(["pipeline", "other"])
    overlap = overlaps["jaccard"]
    assert overlap["prune", "prune"] == 1
    assert overlap["prune", "again"] == overlap["again", "prune"] < 0.3
    assert overlaps.loc[("prune", "prune"), ["lo", "hi"]].tolist() == [1, 1]
    pairs = [chosen(*(votes(part, CLASSES) for part in (p.parents, p.own))) for p in found]
    spread = summarise(overlap_by_member(*pairs))
    assert overlaps.loc[("again", "prune"), ["lo", "hi"]].tolist() == [spread.lo, spread.hi]
    shorter = [found[0]._replace(parents=found[0].parents[1:], own=found[0].own[1:]), found[1]]
    unlike = overlap_table(answers, shorter).set_index(["pipeline", "other"])
    assert unlike.loc[("again", "prune"), ["lo", "hi"]].isna().all()
    classes = class_table(answers, found)
    own = classes[classes["pipeline"] == "prune"]
    assert own["exemplars"].sum() == found[1].chosen.sum()
    assert own["share"].sum() == pytest.approx(1)
    assert own.loc[own["share"].idxmax(), "cls"] == "0"  # the class of the planted ones


def test_exemplars_by_frequency_stand_beside_the_images(answers):
    """Class 0, the tail, has a fifth of the images and all of the planted ones."""
    groups = ("tail", "medium", "medium", "head", "head")
    found = populations(answers, PIPELINES)
    table = group_table(answers._replace(groups=groups), found)
    own = table[table["pipeline"] == "prune"].set_index("group")
    assert own["images"].to_dict() == pytest.approx({"head": 0.4, "medium": 0.4, "tail": 0.2})
    assert own["share"].sum() == pytest.approx(1)
    chosen = found[1].chosen & (answers.truth == 0)
    assert own.loc["tail", "exemplars"] == chosen.sum()
    assert own.loc["tail", "rate"] == pytest.approx(chosen.sum() / (IMAGES / 5))
    assert own.loc["tail", "share"] > 0.4 > own["share"].drop("tail").max()
    assert group_table(answers, found).empty  # of unknown groups


def test_exemplars_under_two_corruptions_stand_beside_both_nulls():
    """Of eight images: four and four, two in common, are 2 / 6; independent ones 2 / 6 as well;
    the replica's are the same ones. Other severities and ratios are other cells. Draws share 1 / 3,
    1 and 1; those of the replica all."""
    four, other = np.arange(8) < 4, (np.arange(8) >= 2) & (np.arange(8) < 6)
    always = Chosen(four, np.tile(four, (3, 1)))
    moved = Chosen(other, np.stack([other, four, four]))
    cells = {
        ("d", "m", "exp", 1.0, shift, severity): {"prune": flags, "again": always}
        for shift, severity, flags in (
            ("fog", 3.0, always), ("snow", 3.0, moved), ("frost", 3.0, always), ("fog", 5.0, always)
        )
    }  # fmt: skip
    cells["d", "m", "exp", 10.0, "frost", 3.0] = {"prune": always}
    tables = shift_overlaps(cells, ["missing", "again"])
    table = tables[PAIRS].set_index(["pipeline", "shift", "other"])
    assert len(table) == 2 * 3
    pair = table.loc["prune", "fog", "snow"]
    assert pair[["jaccard", "by_chance", "null"]].tolist() == [2 / 6, 2 / 6, 1]
    spread = by_draw(2 / 6, np.array([2 / 6, 1, 1]))
    assert pair[["lo", "hi"]].tolist() == [summarise(spread).lo, summarise(spread).hi]
    assert table.loc["again", "fog", "snow"][["lo", "hi"]].tolist() == [1, 1]
    mean = tables[MEANS].set_index("pipeline").loc["prune"]
    assert (mean["pairs"], mean["severity"]) == (3, 3)
    assert mean["jaccard"] == pytest.approx((2 / 6 + 1 + 2 / 6) / 3)
    together = summarise((2 * spread + 1) / 3)  # the same draws under all corruptions
    assert mean[["lo", "hi"]].tolist() == pytest.approx([together.lo, together.hi])
    assert np.isnan(shift_overlaps(cells, [])[PAIRS]["null"]).all()
    assert all(table.empty for table in shift_overlaps({}, []).values())


def test_corruptions_that_not_all_members_answered_have_no_interval():
    flags = np.arange(8) < 4
    cells = {
        ("d", "m", "exp", 1.0, shift, 3.0): {
            "prune": Chosen(flags, np.tile(flags, (5, 1)), tuple(range(first, first + 5)))
        }
        for shift, first in (("fog", 0), ("snow", 1), ("frost", 0))
    }
    for table in shift_overlaps(cells, []).values():
        assert table["jaccard"].eq(1).all()
    assert shift_overlaps(cells, [])[PAIRS]["lo"].notna().tolist() == [False, True, False]
    assert shift_overlaps(cells, [])[MEANS][["lo", "hi"]].isna().all(axis=None)


def test_pairs_without_any_exemplars_are_not_counted():
    """Two of four corruptions have none: five of six pairs have a share, four of them 0."""
    flags, none = np.arange(8) < 4, np.zeros(8, bool)
    cells = {
        ("d", "m", "exp", 1.0, shift, 3.0): {"prune": Chosen(own, np.tile(own, (5, 1)))}
        for shift, own in (("fog", flags), ("snow", flags), ("frost", none), ("jpeg", none))
    }
    mean = shift_overlaps(cells, [])[MEANS].iloc[0]
    assert (mean["pairs"], mean["jaccard"], mean["lo"], mean["hi"]) == (5, 0.2, 0.2, 0.2)


def test_of_middle_severities_the_lower():
    assert middle([1, 3, 5, 5]) == 3
    assert middle([1.0, 5.0]) == 1


def test_the_overlap_of_dense_members_is_the_null_of_each_cell(answers):
    rows = [
        {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0, "seed": seed, "cls": "",
         "pipeline": pipeline, "shift": shift, "severity": 3.0, "metric": metric, "value": value}
        for pipeline, metric, shift, value in (
            ("again", "exemplar_overlap", "fog", 0.3), ("prune", "exemplar_overlap", "fog", 0.4),
            ("again", "exemplar_overlap", "snow", 0.5), ("prune", "exemplar_overlap", "snow", 0.4),
            ("prune", "exemplar_rate", "fog", 0.1),
        )
        for seed in range(2)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    table = exemplar_means(frame, ["again"]).set_index(["pipeline", "shift", "quantity"])["null"]
    assert table["prune", "fog", "overlap"] == pytest.approx(30)
    assert table["prune", "snow", "overlap"] == pytest.approx(50)
    assert np.isnan(table["prune", "fog", "rate"])
    assert exemplar_means(frame)["null"].isna().all()


def test_without_a_replica_there_is_the_swapped_null_alone(answers):
    alone = answers._replace(labels={n: answers.labels[n] for n in ("dense", "prune")})
    table = exemplar_table(alone, populations(alone, PIPELINES), [])
    assert "independent_rate" not in table
    assert 0 < table["null"].item() <= table["null_upper"].item()


def test_doubt_of_the_images(answers):
    """Planted images are those nobody doubts; by their own rate chance images are above."""
    found = populations(answers, PIPELINES)
    doubt = {"replica": disagreement(answers.labels["again"]), "planted": PLANTED.astype(float)}
    table = doubt_table(answers, found, doubt).set_index(["pipeline", "doubt"])
    assert ("again", "replica") not in table.index  # it would judge its own doubts
    chosen, rest = doubt["replica"][found[1].chosen], doubt["replica"][~found[1].chosen]
    higher, equal = (f.outer(chosen, rest).mean() for f in (np.greater, np.equal))
    assert table.loc[("prune", "replica"), "above"] == pytest.approx(higher + equal / 2)
    assert table.loc[("prune", "planted"), "exemplars"] > table.loc[("prune", "planted"), "rest"]
    assert table.loc[("again", "planted"), "above"] < 0.5
    assert doubt["replica"].min() >= 0
    assert doubt["replica"].max() < 1
