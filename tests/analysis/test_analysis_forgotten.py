"""Rows and tables of forgotten images: planted exemplars come out, and beside their null."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.exemplars import exemplars, label_counts
from rcm.analysis.forgotten import Answers, disagreement, forgotten_rows
from rcm.analysis.forgotten_tables import (
    class_table,
    doubt_table,
    exemplar_table,
    overlap_table,
    populations,
)
from rcm.analysis.metrics import MemberInfo
from rcm.analysis.statistics import PipelineInfo

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
    assert table.loc["prune", "independent_p"] == pytest.approx(1 / 201)
    assert table.loc["again", "p"] > 0.05
    assert np.isnan(table.loc["again", "independent_rate"])
    assert table.loc["prune", "shift"] == "clean"
    overlap = overlap_table(answers, found).set_index(["pipeline", "other"])["jaccard"]
    assert overlap["prune", "prune"] == 1
    assert overlap["prune", "again"] == overlap["again", "prune"] < 0.3
    classes = class_table(answers, found)
    own = classes[classes["pipeline"] == "prune"]
    assert own["exemplars"].sum() == found[1].chosen.sum()
    assert own["share"].sum() == pytest.approx(1)
    assert own.loc[own["share"].idxmax(), "cls"] == "0"  # the class of the planted ones


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
