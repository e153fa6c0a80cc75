"""Effective robustness: on a planted line, off it, and where there is no line."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from rcm.analysis.effective import effective_robustness, expected, fit_line, standard_error
from rcm.analysis.statistics import PipelineInfo

BUDGETS = {"dense": 0.9, "finetune": 0.92, "short": 0.5, "shorter": 0.4, "wide": 0.95}
PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    *(PipelineInfo(name, name, "control", "dense", "dense") for name in list(BUDGETS)[1:]),
    PipelineInfo("prune", "prune", "trained", "finetune", "dense"),
]


def on_line(clean):
    return expit(-0.5 + 0.8 * logit(clean))


def accuracies(names, prune_above=0.03, seeds=3):
    """Dense networks on a line in logits; `prune` a given distance above it."""
    rows = {}
    for seed in range(seeds):
        for name in names:
            clean = BUDGETS[name] - 0.01 * seed
            rows["d", "m", "exp", 1.0, seed, name] = clean, on_line(clean)
        clean = 0.8 - 0.02 * seed
        rows["d", "m", "exp", 1.0, seed, "prune"] = clean, on_line(clean) + prune_above
    names = ["dataset", "model", "imbalance", "ratio", "seed", "pipeline"]
    index = pd.MultiIndex.from_tuples(rows, names=names)
    return pd.DataFrame(list(rows.values()), index=index, columns=pd.Index(["clean", "corrupted"]))


def test_a_planted_line_is_found():
    clean = np.array([0.3, 0.5, 0.9])
    line = fit_line(clean, on_line(clean), ["a", "b", "c"])
    assert line[:4] == pytest.approx((-0.5, 0.8, 1.0, 3))
    np.testing.assert_allclose(expected(line, clean), on_line(clean))


def test_the_error_of_a_line_is_that_of_a_regression_on_the_networks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7))
    line = fit_line(expit(x), expit(y), np.arange(7))
    at = np.array([0.2, 0.5, 0.8])
    fitted = sm.OLS(y, sm.add_constant(x)).fit()
    found = fitted.get_prediction(sm.add_constant(logit(at)))
    slope = expected(line, at) * (1 - expected(line, at))  # of accuracies by logits
    np.testing.assert_allclose(logit(expected(line, at)), found.predicted_mean)
    np.testing.assert_allclose(standard_error(line, at) / slope, found.se)


def test_what_lies_above_the_line_is_robust_beyond_its_clean_accuracy():
    table, lines = effective_robustness(accuracies(BUDGETS), PIPELINES)
    found = table.set_index("pipeline")
    np.testing.assert_allclose(
        found.loc["prune", ["mean", "lo", "hi", "n"]].astype(float), (3, 3, 3, 3)
    )
    np.testing.assert_allclose(found.loc[list(BUDGETS), "mean"], 0, atol=1e-9)
    assert lines[["offset", "slope", "r2"]].to_numpy() == pytest.approx(np.array([[-0.5, 0.8, 1]]))


def test_four_dense_networks_are_no_line():
    table, lines = effective_robustness(accuracies(list(BUDGETS)[:4]), PIPELINES)
    assert table.empty
    assert lines.empty


def test_compressed_networks_do_not_bend_the_line():
    table, _ = effective_robustness(accuracies(BUDGETS, prune_above=-0.2), PIPELINES)
    np.testing.assert_allclose(table.set_index("pipeline").loc["prune", "mean"], -20)


def test_nor_do_uncompressed_ones_that_repair_a_tail():
    """A control far below the line is one with a repair: the line stays, and so do the others."""
    values = accuracies(BUDGETS)
    below = values.xs("dense", level="pipeline", drop_level=False).assign(corrupted=0.1)
    below = below.rename({"dense": "adjusted"}, level="pipeline")
    repaired = PipelineInfo("adjusted", "adjusted", "control", "dense", "dense", repair="adjust 1")
    table, lines = effective_robustness(pd.concat([values, below]), [*PIPELINES, repaired])
    assert lines["networks"].tolist() == [len(BUDGETS)]
    means = table.set_index("pipeline")["mean"]
    np.testing.assert_allclose(means[[*BUDGETS, "prune"]], [0, 0, 0, 0, 0, 3], atol=1e-9)
    assert means["adjusted"] < -30
