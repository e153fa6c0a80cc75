"""Effective robustness: corrupted accuracy beyond what clean accuracy alone would let expect."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from rcm.analysis.statistics import BLOCK, PipelineInfo, estimates

UNCOMPRESSED = ("dense", "replica", "control")
ENOUGH = 5  # dense networks of different accuracy that a line needs
EDGE = 1e-3  # accuracies are kept this far from 0 and 1, where logits end
PLACE = [*BLOCK, "ratio"]  # of a line


class Line(NamedTuple):
    """logit(corrupted accuracy) = offset + slope * logit(clean accuracy), and its r^2.

    Of the networks (pipelines) that it goes through: their number, the standard deviation of their
    means about it, mean and sum of squares of their clean accuracies; all in logits.
    """

    offset: float
    slope: float
    r2: float
    networks: int
    spread: float
    centre: float
    squares: float


def expected(line: Line, clean: np.ndarray) -> np.ndarray:
    """The corrupted accuracy, a fraction, that the line has for clean accuracies, fractions."""
    return expit(line.offset + line.slope * _logit(clean))


def standard_error(line: Line, clean: np.ndarray) -> np.ndarray:
    """Of what is expected there, a fraction, over networks that would have drawn the line elsewhere
    (least squares; its degrees of freedom are the networks less two); fields may be arrays [N]."""
    away = (_logit(clean) - line.centre) ** 2 / line.squares
    level = expected(line, clean)
    return level * (1 - level) * line.spread * np.sqrt(1 / line.networks + away)


def fit_line(clean: ArrayLike, corrupted: ArrayLike, networks: ArrayLike) -> Line:
    """Least squares through the members [N], all of them with the same weight; `networks` [N] says
    which of them are of one pipeline."""
    x, y = _logit(np.asarray(clean)), _logit(np.asarray(corrupted))
    slope, offset = np.polyfit(x, y, 1)
    rest = y - (offset + slope * x)
    of = pd.DataFrame({"x": x, "rest": rest}).groupby(np.asarray(networks)).mean()
    spread = np.sqrt((of["rest"] ** 2).sum() / max(1, len(of) - 2))
    r2, squares = 1 - rest.var() / y.var(), ((of["x"] - of["x"].mean()) ** 2).sum()
    numbers = (spread, of["x"].mean(), squares)
    return Line(float(offset), float(slope), float(r2), len(of), *map(float, numbers))


def effective_robustness(
    accuracies: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(estimates of the quantity `effective_robustness`, points; the lines: columns of block,
    ratio and `Line`).

    accuracies: columns `clean` and `corrupted`, fractions, indexed by block, ratio, seed and
    pipeline. The line from clean to corrupted accuracy goes through the members of all uncompressed
    pipelines (the parent, its controls and dense networks of other widths or budgets) that repair
    no long tail; what a member's corrupted accuracy is above it is its effective robustness (Taori
    et al. 2020, arXiv 2007.00644; Miller et al. 2021, arXiv 2107.04649, for the logits). With its
    sign turned it is the excess corruption error at matched clean error. Without five uncompressed
    pipelines there is no line and no row.
    """
    values, lines = above_line(accuracies, pipelines)
    found = [pipeline.name for pipeline in pipelines if pipeline.name in values]
    rows = {(name, "effective_robustness", "", "points"): values[name] for name in found}
    table = estimates(rows)
    return (_doubting(table, lines, accuracies["clean"]) if rows else table), lines


def above_line(
    accuracies: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(effective robustness of every member, points, a column per pipeline, empty without lines;
    the lines), of what `effective_robustness` is given."""
    plain = {p.name for p in pipelines if p.kind in UNCOMPRESSED and not p.repair}
    parts, lines = [], []
    for key, group in accuracies.dropna().groupby(level=PLACE):
        names = group.index.get_level_values("pipeline")
        dense = group[names.isin(plain)]
        networks = dense.index.get_level_values("pipeline")
        if networks.nunique() < ENOUGH:
            continue
        line = fit_line(dense["clean"], dense["corrupted"], networks)
        above = group["corrupted"] - expected(line, group["clean"].to_numpy())
        lines.append((*key, *line))
        parts.append(100 * above)
    table = pd.DataFrame(lines, columns=pd.Index([*PLACE, *Line._fields]))
    return pd.DataFrame(pd.concat(parts).unstack("pipeline")) if parts else pd.DataFrame(), table


def _doubting(table: pd.DataFrame, lines: pd.DataFrame, clean: pd.Series) -> pd.DataFrame:
    """The estimates with intervals that do not take the line for known: its variance at a
    pipeline's mean clean accuracy is added to that over seeds, with the degrees of freedom of Welch
    and Satterthwaite."""
    means = clean.groupby(level=[*PLACE, "pipeline"]).mean().rename("clean")
    given = table.merge(lines, on=PLACE, how="left").join(means, on=[*PLACE, "pipeline"])
    line = Line(*(given[name].to_numpy() for name in Line._fields))
    n, half = given["n"].to_numpy(), (given["hi"] - given["mean"]).to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # one seed; no spread at all
        seeds = (half / stats.t.ppf(0.975, n - 1)) ** 2
        doubt = (100 * standard_error(line, given["clean"].to_numpy())) ** 2
        freedom = (seeds + doubt) ** 2 / (seeds**2 / (n - 1) + doubt**2 / (line.networks - 2))
        half = np.where(seeds + doubt > 0, stats.t.ppf(0.975, freedom), 0) * np.sqrt(seeds + doubt)
    return table.assign(lo=table["mean"] - half, hi=table["mean"] + half)


def _logit(accuracy: np.ndarray) -> np.ndarray:
    return logit(np.clip(accuracy, EDGE, 1 - EDGE))
