"""Wrongly labelled training images: planted exemplars come out, and chance gives none beyond it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.exemplars import exemplars, label_counts
from rcm.analysis.forgotten import Answers
from rcm.analysis.metrics import MemberInfo
from rcm.analysis.mislabelled import mislabelled, mislabelled_rows

CLASSES, IMAGES, SEEDS = 5, 1000, 10
PLACE = ("d", "m", "exp", 1.0, "clean_train", 0.0)
INFO = MemberInfo("d", "m", "exp", 1, 0, "dense", "f", (5,) * CLASSES, 5, 10)
TRUTH = np.arange(IMAGES) % CLASSES
WRONG = np.arange(IMAGES) < 200
OTHER = np.where(WRONG, (TRUTH + 1) % CLASSES, TRUTH)


def population(rng, learned, seeds=SEEDS):
    """Members [N] by seed that answer a wrongly labelled image by its wrong label with the chance
    `learned` [N], by the true one otherwise, and rightly labelled ones wrongly with 5 %."""
    told = rng.random((seeds, IMAGES)) < learned
    slips = (rng.random((seeds, IMAGES)) < 0.05) & ~WRONG
    labels = np.where(told, OTHER, TRUTH)
    return dict(enumerate(np.where(slips, (TRUTH + 2) % CLASSES, labels).astype(np.uint8)))


def rows_of(labels, others=None):
    answers = Answers(labels, TRUTH, CLASSES, PLACE)
    infos = {
        (name, seed): dataclasses.replace(INFO, pipeline=name, seed=seed)
        for name, members in labels.items()
        for seed in members
    }
    given = (answers, infos, "dense", ["again"], others or {"planted": OTHER})
    return pd.DataFrame(mislabelled_rows(*given))


def study(forgets: float, draw: int = 0):
    """Dense members learn half of the wrong labels by heart, each image with a chance of its own;
    of those on which most of them agree, compressed ones have forgotten the share `forgets`."""
    rng = np.random.default_rng(draw)
    chance = np.where(WRONG, rng.random(IMAGES), 0)
    kept = np.where(rng.random(IMAGES) < forgets, 0.0, chance)
    return {"dense": population(rng, chance), "again": population(rng, chance),
            "prune": population(rng, kept)}  # fmt: skip


def estimates(labels):
    return mislabelled(rows_of(labels)).set_index(["pipeline", "quantity"])


def test_planted_exemplars_come_out():
    labels = study(forgets=0.8)
    table = estimates(labels)
    counts = [label_counts(np.stack(list(labels[n].values())), CLASSES) for n in ("dense", "prune")]
    chosen = exemplars(*counts)
    found = table.loc["prune"]["mean"]
    assert found["exemplars among wrong"] == pytest.approx(100 * chosen[WRONG].mean())
    assert found["exemplars among right"] == pytest.approx(100 * chosen[~WRONG].mean())
    # most dense members know 5 of 11 labels and, as ties go to the larger id, 4 in 5 of 1 in 11;
    # 80 % of them are forgotten, and of the rest some 13 % differ by chance
    assert found["exemplars among wrong"] == pytest.approx(45, abs=8)
    assert found["exemplars among right"] < 1
    assert found["difference"] == pytest.approx(
        found["exemplars among wrong"] - found["exemplars among right"]
    )
    excess = table.loc[("prune", "difference of excess")]
    assert 15 < excess["lo"] < excess["mean"] < 45
    assert ("again", "difference of excess") not in table.index  # it is the null itself


def test_without_an_effect_there_are_exemplars_but_none_beyond_chance():
    """Half-learned labels are exemplars between any populations; their excess is 0 in the mean."""
    tables = [estimates(study(forgets=0.0, draw=draw)) for draw in range(8)]
    raw = [table.loc[("prune", "difference"), "mean"] for table in tables]
    excess = np.array([table.loc[("prune", "difference of excess"), "mean"] for table in tables])
    covered = [
        table.loc[("prune", "difference of excess"), "lo"]
        <= 0
        <= table.loc[("prune", "difference of excess"), "hi"]
        for table in tables
    ]
    assert min(raw) > 2
    assert abs(excess.mean()) < 3 * excess.std(ddof=1) / np.sqrt(8)
    assert sum(covered) >= 7


def test_shares_of_members_by_hand():
    """Two members: one knows all wrong labels, the other three quarters of the true ones."""
    half = np.where(np.arange(IMAGES) < 50, (TRUTH + 3) % CLASSES, TRUTH)
    frame = rows_of({"dense": {0: OTHER, 1: half}})
    values = frame.set_index(["seed", "metric"])["value"].to_dict()
    assert values == {
        (0, "mislabelled_accuracy"): 0, (0, "mislabelled_memorised"): 1,
        (0, "well_labelled_accuracy"): 1, (1, "mislabelled_accuracy"): 0.75,
        (1, "mislabelled_memorised"): 0, (1, "well_labelled_accuracy"): 1,
    }  # fmt: skip
    assert set(frame["shift"]) == {"clean_train"}
    assert set(frame["cls"]) == {"planted"}


def test_labels_that_name_no_image_otherwise_say_nothing():
    labels = study(0.5)
    assert rows_of(labels, {"human": TRUTH, "planted": (TRUTH + 1) % CLASSES}).empty
    kinds = rows_of(labels, {"human": OTHER, "planted": OTHER})
    assert set(kinds["cls"]) == {"human", "planted"}


def test_few_members_are_no_population_and_pairs_are_of_one_seed():
    labels = study(0.5)
    labels["few"] = dict(list(labels["prune"].items())[:4])
    del labels["dense"][3]
    labels["prune"][77] = labels["prune"][0]
    frame = rows_of(labels)
    rates = frame[frame["metric"] == "mislabelled_exemplar_rate"]
    assert set(rates["pipeline"]) == {"again", "prune"}
    assert set(rates.loc[rates["pipeline"] == "prune", "seed"]) == set(range(SEEDS)) - {3}
    assert set(frame.loc[frame["pipeline"] == "few", "metric"]) == {
        "mislabelled_accuracy", "mislabelled_memorised", "well_labelled_accuracy",
    }  # fmt: skip


def test_studies_without_such_images_have_no_rows():
    frame = rows_of(study(0.5)).assign(shift="clean", metric="accuracy", cls="")
    frame = frame.drop_duplicates(["seed", "pipeline"])
    assert mislabelled(frame).empty
