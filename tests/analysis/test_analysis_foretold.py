"""What foretells harm: by hand, against scipy, planted and found, and nothing where nothing is."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike
from scipy import stats

from rcm.analysis.foretold import foretold, harm_and_predictors, matched
from rcm.analysis.statistics import PipelineInfo

PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
]
CLASSES, SEEDS = 6, 5


def rows_of(values: Mapping[tuple[str, str], ArrayLike], status: str = "ok") -> pd.DataFrame:
    """A tidy table of [seeds] or, by class, [seeds, C] by (pipeline, metric)."""
    member = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 10.0, "shift": "clean",
              "severity": 0.0, "status": status}  # fmt: skip
    rows = []
    for (pipeline, metric), table in values.items():
        for seed, of_member in enumerate(np.asarray(table, float)):
            own = member | {"pipeline": pipeline, "seed": seed, "metric": metric}
            of_class = np.ndim(of_member) == 1
            rows += [
                own | {"cls": str(c) if of_class else "", "value": value}
                for c, value in enumerate(np.atleast_1d(of_member))
            ]
    return pd.DataFrame(rows)


def study(rng, harm_by) -> pd.DataFrame:
    """harm_by(gradients [seeds, C]) is what pruning takes from recall, in fractions."""
    gradient = rng.uniform(0.1, 1.0, (SEEDS, CLASSES))
    dense = rng.uniform(0.7, 0.9, (SEEDS, CLASSES))
    pruned = dense - harm_by(gradient)
    return rows_of({
        ("dense", "recall"): dense, ("dense", "accuracy"): dense.mean(1),
        ("prune", "recall"): pruned, ("prune", "accuracy"): pruned.mean(1),
        ("dense", "class_gradient"): gradient,
        ("dense", "class_margin"): -gradient,
        ("dense", "train_count"): np.tile([60.0, 50, 40, 30, 20, 10], (SEEDS, 1)),
    })  # fmt: skip


def test_harm_is_the_loss_beyond_that_of_accuracy():
    frame = rows_of({
        ("dense", "recall"): [[0.9, 0.8]], ("dense", "accuracy"): [0.85],
        ("prune", "recall"): [[0.85, 0.55]], ("prune", "accuracy"): [0.70],
        ("dense", "train_count"): [[20, 2]],
    })  # fmt: skip
    table = harm_and_predictors(frame, PIPELINES)["prune"].droplevel([0, 1, 2, 3])
    assert table.loc[(0, "0"), "harm"] == pytest.approx(5 - 15)
    assert table.loc[(0, "1"), "harm"] == pytest.approx(25 - 15)
    assert table["size"].tolist() == [20, 2]


def test_what_decides_harm_is_found_in_every_seed():
    frame = study(np.random.default_rng(0), lambda gradient: 0.2 * gradient)
    table = foretold(frame, PIPELINES).set_index("predictor")
    assert table.loc["gradient", "mean"] == pytest.approx(1)
    assert [table.loc["margin", name] for name in ("mean", "rho")] == pytest.approx([-1, -1])
    assert [table.loc["gradient", name] for name in ("n", "classes")] == [SEEDS, CLASSES]
    # 2 of the 720 orders of six classes are as extreme as the two perfect ones
    assert table.loc["gradient", "p"] == pytest.approx(2 / 720)
    assert table["mean"].abs()["size"] < 0.8  # which decides nothing


def test_each_seed_is_ranked_by_itself():
    frame = study(np.random.default_rng(1), lambda g: 0.1 * g + 0.1 * np.roll(g, 1, axis=1))
    table = foretold(frame, PIPELINES).set_index("predictor")
    pairs = harm_and_predictors(frame, PIPELINES)["prune"]
    each = [
        stats.spearmanr(part["harm"], part["gradient"]).statistic
        for _, part in pairs.groupby("seed")
    ]
    assert table.loc["gradient", "mean"] == pytest.approx(np.mean(each))
    over = pairs.groupby("cls").mean()
    rho = stats.spearmanr(over["harm"], over["gradient"]).statistic
    assert table.loc["gradient", "rho"] == pytest.approx(rho)


def test_nothing_foretells_chance():
    """Of 200 predictors that have nothing to do with it, about one in twenty is called one."""
    rng = np.random.default_rng(2)
    p = [matched(rng.normal(size=7), rng.normal(size=7))[1] for _ in range(200)]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_sizes_that_are_all_alike_foretell_nothing():
    frame = study(np.random.default_rng(0), lambda gradient: gradient)
    frame.loc[frame["metric"] == "train_count", "value"] = 50.0
    assert set(foretold(frame, PIPELINES)["predictor"]) == {"gradient", "margin"}


def test_harm_that_is_the_same_for_all_classes_has_no_p():
    frame = study(np.random.default_rng(0), lambda gradient: 0 * gradient)
    table = foretold(frame, PIPELINES)
    assert table[["mean", "rho", "p", "p_bh"]].isna().all(axis=None)


@pytest.mark.parametrize("missing", ["class_gradient", "recall", "train_count"])
def test_what_was_not_measured_is_left_out(missing):
    frame = study(np.random.default_rng(0), lambda gradient: gradient)
    table = foretold(frame[frame["metric"] != missing], PIPELINES)
    assert table.empty if missing == "recall" else len(table) == 2


def test_a_diverged_member_is_left_out():
    frame = study(np.random.default_rng(0), lambda gradient: gradient)
    frame.loc[(frame["seed"] == 1) & (frame["pipeline"] == "prune"), "status"] = "diverged"
    assert (foretold(frame, PIPELINES)["n"] == SEEDS - 1).all()
