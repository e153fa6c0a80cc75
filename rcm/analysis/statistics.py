"""Paired statistics over seeds on the tidy results table.

Rows are members x shifts x metrics; every comparison pairs members of one seed, and every mean
comes with a paired t interval, its n and a note. Missing cells (a study half done, a diverged
member, no balanced member) leave estimates out; they never raise.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from rcm.analysis.metrics import CLEAN, VALIDATION

BLOCK = ["dataset", "model", "imbalance"]
MEMBER = [*BLOCK, "ratio", "seed"]
KINDS = ("dense", "replica", "control", "trained", "post_training", "student")
COMPRESSED = ("trained", "post_training", "student")
COLUMNS = [*MEMBER, "pipeline", "shift", "severity", "metric", "cls", "value"]


@dataclass(frozen=True)
class PipelineInfo:
    """A pipeline in the order of display, and the pipelines that it is compared with.

    kind: "dense" (the parent itself), "replica" (dense members of other seeds), "control" (an
    uncompressed reference: dense with extra steps, or a student trained alone), "trained",
    "post_training" or "student" (distilled).
    baseline: the primary comparison (`finetune` for trained, the parent for post-training, the
    student trained alone for a student, each under the pipeline's own repairs); parent: what it
    compresses or learned from, the dense member or another network that was trained alone.
    techniques: names of its compression techniques, in order; bits: of weights and activations, in
    the mean, 0 where neither is quantized; sparsity: the share of weights that pruning takes;
    repair: of the long tail, "" for none.
    """

    name: str
    label: str
    kind: str
    baseline: str = ""
    parent: str = ""
    techniques: tuple[str, ...] = ()
    bits: float = 0.0
    sparsity: float = 0.0
    repair: str = ""


class Estimate(NamedTuple):
    """A mean over n seeds with its 95 % interval; `note` says what to mind, "" if nothing."""

    mean: float
    lo: float
    hi: float
    n: int
    note: str


def check_pipelines(pipelines: Sequence[PipelineInfo], frame: pd.DataFrame | None = None) -> None:
    """ValueError for an unknown kind, a baseline outside the list, or unlisted pipelines."""
    names = [pipeline.name for pipeline in pipelines]
    for pipeline in pipelines:
        if pipeline.kind not in KINDS:
            raise ValueError(
                f"pipeline {pipeline.name!r} has kind {pipeline.kind!r}, expected one of "
                f"{', '.join(KINDS)}"
            )
        for other in (pipeline.baseline, pipeline.parent):
            if other and other not in names:
                raise ValueError(
                    f"pipeline {pipeline.name!r} is compared with {other!r}, which is not listed; "
                    f"list it or name one of {', '.join(names)}"
                )
    unknown = sorted(set(frame["pipeline"].unique()) - set(names)) if frame is not None else []
    if unknown:
        raise ValueError(
            f"the results hold pipelines that are not described: {', '.join(unknown)}; add a "
            "PipelineInfo for each or leave their rows out"
        )


def usable(frame: pd.DataFrame, metric: str = "") -> pd.DataFrame:
    """The rows that may be measured: without diverged members; of a large table quicker if they are
    those of one metric alone. ValueError on missing columns."""
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"the results lack the columns {', '.join(missing)}; rebuild the table")
    frame = frame[frame["metric"] == metric] if metric else frame
    if "status" not in frame.columns:
        return frame
    lost = frame["status"] == "diverged"
    return frame[~lost] if lost.any() else frame


def diverged_names(frame: pd.DataFrame) -> list[str]:
    """The members left out because training diverged, one readable name each."""
    if "status" not in frame.columns:
        return []
    rows = frame.loc[frame["status"] == "diverged", [*MEMBER, "pipeline"]].drop_duplicates()
    return [
        f"{row.dataset}, {row.model}, {row.imbalance} {row.ratio:g}, {row.pipeline}, "
        f"seed {row.seed}"
        for row in records(rows)
    ]


def summarise(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean and paired t interval of per-seed values: mean +- t(n - 1) sd / sqrt(n) (Student 1908).

    NaN (a missing seed) is dropped. n = 2 is marked unreliable; n = 1 has no interval.
    """
    present = np.asarray(values, np.float64).ravel()
    present = present[~np.isnan(present)]
    n = present.size
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0, _note(0))
    mean = float(present.mean())
    if n == 1:
        return Estimate(mean, np.nan, np.nan, 1, _note(1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * present.std(ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n, _note(n))


def _note(n: int) -> str:
    return {0: "missing", 1: "no interval (n = 1)", 2: "unreliable (n = 2)"}.get(int(n), "")


def no_spread(values: ArrayLike) -> bool:
    """True if the values are equal up to float64 rounding, so that a t test means nothing."""
    values = np.asarray(values, np.float64)
    return bool(np.ptp(values) <= 1e-9 * max(1.0, np.abs(values).max()))


def paired_t(differences: ArrayLike) -> float:
    """Two-sided p of the t test that the mean of per-seed differences is 0.

    NaN where there is no test: n < 2, or differences that are equal and not 0; equal zeros give 1.
    """
    present = np.asarray(differences, np.float64).ravel()
    present = present[~np.isnan(present)]
    if present.size < 2:
        return float("nan")
    if no_spread(present):
        return 1.0 if no_spread([present[0], 0.0]) else float("nan")
    return float(stats.ttest_1samp(present, 0.0).pvalue)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p-values (Holm 1979), same order; NaN stays and is not counted."""
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]
    factors = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def wide(
    frame: pd.DataFrame, metric: str, shift: str | None = CLEAN, by: Sequence[str] = ()
) -> pd.DataFrame:
    """Values of one metric, one column per pipeline, indexed by block, ratio, seed and `by`.

    shift None takes every shifted image (name it in `by`: "shift", "severity"; "cls" for
    per-class metrics). ValueError if two rows compete for one place.
    """
    index = [*MEMBER, *by, "pipeline"]
    needed = list(dict.fromkeys([*index, "shift", "value"]))
    rows = frame.loc[frame["metric"] == metric, needed]
    shifted = ~rows["shift"].isin((CLEAN, VALIDATION))
    rows = rows[shifted if shift is None else rows["shift"] == shift]
    rows = rows[[*index, "value"]].astype({"ratio": float})
    try:
        return rows.set_index(index)["value"].unstack("pipeline")
    except ValueError as error:  # looked for only now, because it takes as long as the rest
        if not rows.duplicated(index).any():
            raise
        raise ValueError(
            f"two rows of {metric!r} describe the same {', '.join(index)}; a results table holds "
            "each member once"
        ) from error


def per_seed(values: pd.Series | pd.DataFrame) -> pd.DataFrame:
    """A row per seed, a column per pipeline that has any member: means over the other levels of the
    index, NaN where a seed lacks what other seeds have.

    values: indexed by seed and others, a column per pipeline or a level of the index.
    """
    if not len(values):
        return pd.DataFrame()
    table = values.unstack("pipeline") if isinstance(values, pd.Series) else values
    others = [name for name in table.index.names if name != "seed"]
    cells = pd.DataFrame(table.unstack(others)).dropna(axis="columns", how="all").T
    whole = cells.notna().groupby(level="pipeline").all()
    return cells.groupby(level="pipeline").mean().where(whole).T


def by_seed(values: pd.Series | pd.DataFrame) -> pd.DataFrame:
    """`per_seed` without the seeds that lack a pipeline."""
    return per_seed(values).dropna()


def gap(values: pd.DataFrame, unit: str = "points") -> pd.DataFrame:
    """Performance gap v(rho = 1) - v(rho) per seed, of fractions indexed as by `wide` (ours,
    protocol S1).

    unit "points": in percentage points; "percent": in percent of v(1). Indexed like the input
    without its rows of ratio 1; empty where the balanced member is absent.
    """
    ratio = values.index.get_level_values("ratio")
    rest = values[ratio != 1]
    reference = values[ratio == 1].reset_index("ratio", drop=True)
    reference = reference.reindex(rest.reset_index("ratio", drop=True).index)
    reference.index = rest.index
    difference = 100 * (reference - rest)
    return difference if unit == "points" else difference / reference.where(reference > 0)


def difference(values: pd.DataFrame, pipeline: str, baseline: str) -> pd.Series:
    """`pipeline` minus `baseline`, paired by everything in the index; NaN where one is missing.

    Of gaps this is the difference in differences DiD(c, rho) = gap(c, rho) - gap(baseline, rho).
    """
    columns = values.reindex(columns=list(dict.fromkeys([pipeline, baseline])))
    return columns[pipeline] - columns[baseline]


def over_seeds(values: pd.Series) -> pd.DataFrame:
    """`summarise` over the seeds: columns mean, lo, hi, n, note, indexed by the other levels in the
    order in which they come first."""
    values = values.dropna()
    levels = [name for name in values.index.names if name != "seed"]
    table = values.groupby(level=levels, sort=False).agg(["mean", "std", "count"])
    n = table["count"].to_numpy()
    quantile = np.full(n.shape, np.nan)
    quantile[n > 1] = stats.t.ppf(0.975, n[n > 1] - 1)
    half = quantile * table["std"] / np.sqrt(n)
    notes = [_note(count) for count in n]
    table = table.assign(lo=table["mean"] - half, hi=table["mean"] + half, n=n, note=notes)
    return table[list(Estimate._fields)]


def records(table: pd.DataFrame) -> Iterable[Any]:
    """The rows as objects with one attribute per column."""
    return table.itertuples(index=False)


def contrast(
    frame: pd.DataFrame, metric: str, pipeline: str, baseline: str, shift: str = CLEAN
) -> pd.DataFrame:
    """Mean paired difference of a clean metric in its own unit, per block and ratio."""
    return over_seeds(difference(wide(usable(frame), metric, shift), pipeline, baseline))


def gap_table(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Gaps and differences in differences of accuracy, long: one row per estimate.

    Columns: block, ratio, pipeline, quantity (gap, did), baseline ("" for gaps), unit (points or
    percent), mean, lo, hi, n, note. DiD is given against the primary baseline and the parent.
    """
    parts = {}
    values = wide(usable(frame), "accuracy")
    for unit in ("points", "percent"):
        gaps = gap(values, unit)
        for pipeline in pipelines:
            if pipeline.name not in gaps:
                continue
            parts[pipeline.name, "gap", "", unit] = gaps[pipeline.name]
            for other in filter(None, (pipeline.baseline, pipeline.parent)):
                did = difference(gaps, pipeline.name, other)
                parts[pipeline.name, "did", other, unit] = did
    return estimates(parts)


ESTIMATE_COLUMNS = [*BLOCK, "ratio", "pipeline", "quantity", "baseline", "unit", *Estimate._fields]


def stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Estimate tables under one another with the columns of every such table; empty if none."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=ESTIMATE_COLUMNS)
    return pd.concat(parts, ignore_index=True)


def estimates(parts: Mapping[tuple[str, str, str, str], pd.Series]) -> pd.DataFrame:
    """`over_seeds` of many series in one pass, as a long table in the order given.

    parts: per-seed values by (pipeline, quantity, baseline, unit), all indexed by block, ratio,
    seed and the same further levels, which become columns before the usual ones.
    """
    if not parts:
        return stacked([])
    values = pd.concat(dict(parts), names=["pipeline", "quantity", "baseline", "unit"])
    table = over_seeds(values).reset_index()
    more = [name for name in table.columns if name not in ESTIMATE_COLUMNS]
    return table[[*more, *ESTIMATE_COLUMNS]]
