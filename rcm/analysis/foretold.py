"""What foretells which classes compression harms: rank correlations of harm with what is known of
each class before it.

Harm of a class is the loss of its recall beyond the loss of accuracy (`harm.normalised_changes`,
its sign turned). Size is how many training images it has; margin, gradient and eigenvalue are those
of the dense parent on training images (`rcm.train.curvature`), so that no test image enters both
sides of a correlation. Source of the last two: Tran et al. 2022 (arXiv 2205.13574).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from rcm.analysis.harm import normalised_changes
from rcm.analysis.significance import benjamini_hochberg
from rcm.analysis.statistics import (
    BLOCK,
    PipelineInfo,
    summarise,
    usable,
    wide,
)

PREDICTORS = {  # metric in the results: what it is called, all by class
    "train_count": "size",
    "class_margin": "margin",
    "class_gradient": "gradient",
    "class_eigenvalue": "eigenvalue",
}
LEAST = 5  # classes: fewer ranks than these have 24 orders, of which no p is below 2 / 24
DRAWS, SEED = 9999, 0  # permutations of classes where there are more
COLUMNS = [*BLOCK, "ratio", "pipeline", "predictor", "mean", "lo", "hi", "n", "classes", "rho", "p",
           "p_bh"]  # fmt: skip


def harm_and_predictors(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> dict[str, pd.DataFrame]:
    """By pipeline columns `harm` (points) and those of `PREDICTORS` by their names, as far as the
    parent has them, indexed by block, ratio, seed and class; rows that lack harm are left out."""
    rows, changes = usable(frame), normalised_changes(frame, pipelines)
    known = {name: wide(rows, metric, by=("cls",)) for metric, name in PREDICTORS.items()}
    parents = {pipeline.name: pipeline.parent for pipeline in pipelines}
    return {
        name: _beside(change, {n: t[parents[name]] for n, t in known.items() if parents[name] in t})
        for name, change in changes.items()
    }


def _beside(change: pd.DataFrame, known: Mapping[str, pd.Series]) -> pd.DataFrame:
    """A pipeline's harm and what is known of its parent's classes."""
    if change.empty:
        return pd.DataFrame()
    harm: Any = -change.rename_axis(columns="cls").stack()
    return pd.DataFrame({"harm": harm, **known}).dropna(subset="harm")


def foretold(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """One row per block, ratio, pipeline with a parent and predictor that differs between classes.

    mean, lo, hi, n: Spearman's correlation of predictor and harm over the classes, one for each
    seed, with its t interval over seeds (of these classes: other classes may differ). rho, p: that
    of the means over seeds, and how often classes matched at random correlate as much (two-sided,
    every order of them or `DRAWS` drawn ones); p_bh: after Benjamini and Hochberg, over the rows of
    a block. No rows with fewer than `LEAST` classes.
    """
    found = []
    for pipeline, table in harm_and_predictors(frame, pipelines).items():
        for key, part in table.groupby(level=[*BLOCK, "ratio"], sort=False) if len(table) else ():
            for name in part.columns.drop("harm"):
                row = _correlation(part[["harm", name]].dropna())
                found += [(*key, pipeline, name, *row)] if row else []
    made = pd.DataFrame(found, columns=pd.Index(COLUMNS[:-1]))
    corrected = made.groupby(BLOCK)["p"].transform(benjamini_hochberg) if len(made) else []
    return made.assign(p_bh=corrected)


def _correlation(pairs: pd.DataFrame) -> tuple | None:
    """(mean, lo, hi, n, classes, rho, p) of harm with a predictor; None where there is none."""
    harm, known = (pd.DataFrame(pairs[name].unstack("cls")) for name in pairs.columns)
    whole = harm.notna().all(axis=0) & known.notna().all(axis=0)
    harm, known = harm.loc[:, whole], known.loc[:, whole]
    if harm.shape[1] < LEAST or (known.nunique(axis=1) < 2).all():
        return None
    each = [_spearman(a, b) for a, b in zip(harm.to_numpy(), known.to_numpy(), strict=True)]
    over = summarise(each)
    rho, p = matched(harm.mean().to_numpy(), known.mean().to_numpy())
    return over.mean, over.lo, over.hi, over.n, harm.shape[1], rho, p


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    constant = np.ptp(a) == 0 or np.ptp(b) == 0
    return np.nan if constant else float(stats.spearmanr(a, b).statistic)


def matched(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Spearman's rho of two sequences [C], and the two-sided p of their permutation test; NaN where
    one is constant."""
    if np.isnan(_spearman(a, b)):
        return np.nan, np.nan
    ranks = [stats.rankdata(one) - (len(one) + 1) / 2 for one in (a, b)]
    ranks = [one / np.sqrt((one**2).sum()) for one in ranks]

    def correlation(x, axis):
        return (x * ranks[1]).sum(axis=axis)

    found = stats.permutation_test(
        (ranks[0],), correlation, permutation_type="pairings", vectorized=True,
        n_resamples=DRAWS, batch=1000, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return float(found.statistic), float(found.pvalue)
