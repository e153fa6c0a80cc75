"""Effective robustness: corrupted accuracy beyond what clean accuracy alone would let expect."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from rcm.analysis.statistics import BLOCK, PipelineInfo, estimates

UNCOMPRESSED = ("dense", "replica", "control")
ENOUGH = 5  # dense networks of different accuracy that a line needs
EDGE = 1e-3  # accuracies are kept this far from 0 and 1, where logits end


class Line(NamedTuple):
    """logit(corrupted accuracy) = offset + slope * logit(clean accuracy), and its r^2."""

    offset: float
    slope: float
    r2: float


def expected(line: Line, clean: np.ndarray) -> np.ndarray:
    """The corrupted accuracy, a fraction, that the line has for clean accuracies, fractions."""
    return expit(line.offset + line.slope * _logit(clean))


def fit_line(clean: np.ndarray, corrupted: np.ndarray) -> Line:
    """Least squares through the members [N], all of them with the same weight."""
    x, y = _logit(clean), _logit(corrupted)
    slope, offset = np.polyfit(x, y, 1)
    rest = y - (offset + slope * x)
    return Line(float(offset), float(slope), float(1 - rest.var() / y.var()))


def effective_robustness(
    accuracies: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(estimates of the quantity `effective_robustness`, points; the lines: columns of block,
    ratio and `Line`).

    accuracies: columns `clean` and `corrupted`, fractions, indexed by block, ratio, seed and
    pipeline. The line from clean to corrupted accuracy goes through the members of all uncompressed
    pipelines (the parent, its controls and dense networks of other widths or budgets); what a
    member's corrupted accuracy is above it is its effective robustness (Taori et al. 2020, arXiv
    2007.00644; Miller et al. 2021, arXiv 2107.04649, for the logits). Without five uncompressed
    pipelines there is no line and no row.
    """
    values, lines = above_line(accuracies, pipelines)
    found = [pipeline.name for pipeline in pipelines if pipeline.name in values]
    rows = {(name, "effective_robustness", "", "points"): values[name] for name in found}
    return estimates(rows), lines


def above_line(
    accuracies: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(effective robustness of every member, points, a column per pipeline, empty without lines;
    the lines), of what `effective_robustness` is given."""
    kinds = {pipeline.name: pipeline.kind for pipeline in pipelines}
    parts, lines = [], []
    for key, group in accuracies.dropna().groupby(level=[*BLOCK, "ratio"]):
        names = group.index.get_level_values("pipeline")
        dense = group[names.map(kinds).isin(UNCOMPRESSED)]
        if dense.index.get_level_values("pipeline").nunique() < ENOUGH:
            continue
        line = fit_line(dense["clean"].to_numpy(), dense["corrupted"].to_numpy())
        above = group["corrupted"] - expected(line, group["clean"].to_numpy())
        lines.append((*key, *line))
        parts.append(100 * above)
    table = pd.DataFrame(lines, columns=pd.Index([*BLOCK, "ratio", *Line._fields]))
    return pd.DataFrame(pd.concat(parts).unstack("pipeline")) if parts else pd.DataFrame(), table


def _logit(accuracy: np.ndarray) -> np.ndarray:
    return logit(np.clip(accuracy, EDGE, 1 - EDGE))
