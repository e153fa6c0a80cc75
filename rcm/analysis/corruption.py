"""Corruption error against the parent, in excess of clean error, per seed and then averaged."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.corruption_error import averages, named
from rcm.analysis.effective import effective_robustness
from rcm.analysis.statistics import (
    MEMBER,
    PipelineInfo,
    over_seeds,
    stacked,
    usable,
    wide,
)

MIN_DENOMINATOR = 0.01  # one point of error: below it relative CE is noise over noise
PARENT = "percent of the parent"
UNITS = {"corrupted_accuracy": "percent", "excess_error": "points"}  # of all others: `PARENT`


def corruption_errors(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """Per member and corruption: corrupted_accuracy, ce, relative_ce, excess_error.

    With error E(s) at severity s, clean error E0 and the parent's (P) of the same seed:
    ce = 100 sum_s E(s) / sum_s P(s); relative_ce = 100 sum_s (E(s) - E0) / sum_s (P(s) - P0)
    (Hendrycks & Dietterich 2019, arXiv 1903.12261, with the parent in AlexNet's place), NaN where
    the mean over severities of P(s) - P0 is under one point; excess_error = mean over severities
    of (E(s) - E0) - (P(s) - P0), in points; corrupted_accuracy in percent. A dense parent is
    compared with itself (100, 100, 0). Index: block, ratio, seed, pipeline, shift. A pair that
    lacks a severity which the study has is left out.
    """
    frame = usable(frame)
    shifted = 1 - wide(frame, "accuracy", None, ("shift", "severity"))
    clean = 1 - wide(frame, "accuracy")
    clean = clean.reindex(columns=shifted.columns)
    clean = clean.reindex(shifted.reset_index(["shift", "severity"], drop=True).index)
    clean.index = shifted.index
    parents = {p.name: p.parent or p.name for p in pipelines}
    known = [name for name, parent in parents.items() if {name, parent} <= set(shifted.columns)]
    if not known:
        index = pd.MultiIndex.from_arrays([[]] * 7, names=[*MEMBER, "pipeline", "shift"])
        columns = ["corrupted_accuracy", "ce", "relative_ce", "excess_error"]
        return pd.DataFrame(index=index, columns=columns, dtype=float)
    both = shifted[known].notna() & _of_parents(shifted, parents, known).notna()
    groups = [*MEMBER, "shift"]
    severities = both.reset_index().groupby("shift")["severity"].nunique()
    count = both.groupby(level=groups).sum()
    complete = count.eq(
        severities.reindex(count.index.get_level_values("shift")).to_numpy(), axis=0
    )
    e, p, e0, p0 = (
        values.where(both).groupby(level=groups).mean()
        for table in (shifted, clean)
        for values in (table[known], _of_parents(table, parents, known))
    )
    rise, parent_rise = e - e0, p - p0
    found = {
        "corrupted_accuracy": 100 * (1 - e),
        "ce": 100 * e / p.where(p > 0),
        "relative_ce": 100 * rise / parent_rise.where(parent_rise >= MIN_DENOMINATOR),
        "excess_error": 100 * (rise - parent_rise),
    }
    return pd.concat(
        {name: pd.DataFrame({q: t[name] for q, t in found.items()})[complete[name]]
         for name in known}, names=["pipeline"],
    ).reorder_levels([*MEMBER, "pipeline", "shift"])  # fmt: skip


def _of_parents(table: pd.DataFrame, parents: dict[str, str], names: list[str]) -> pd.DataFrame:
    """The columns of the parents of pipelines, under the pipelines' names."""
    return table[[parents[name] for name in names]].set_axis(names, axis="columns")


def corruption_summary(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(per corruption, over corruptions), long estimate tables like `gap_table`, and (lines).

    The first has a `shift` column and the quantities corrupted_accuracy, ce, relative_ce and
    excess_error; the second averages them over corruptions within a seed first (mce, relative_mce,
    over `averages`, which the unit names; the others over all), leaves out a seed that lacks a
    corruption, and counts in its note the (seed, corruption) cells without a relative CE. Where
    there are dense networks enough it also
    has the quantity effective_robustness, and the third the lines that it is read off.
    """
    errors = corruption_errors(frame, pipelines)
    parents = {pipeline.name: pipeline.parent for pipeline in pipelines}
    by_shift = [_long(errors[name], name, parents) for name in errors.columns]
    means = over_shifts(errors)
    overall = [_long(means[name], name, parents) for name in UNITS]
    for suffix, names in averages(errors.index.unique("shift")).items():
        overall += _mean_errors(errors, names, suffix, parents)
    members = accuracies(frame, means["corrupted_accuracy"])
    effective, lines = effective_robustness(members, pipelines)
    return stacked(by_shift), stacked([*overall, effective]), lines


def over_shifts(errors: pd.DataFrame, names: Collection[str] | None = None) -> pd.DataFrame:
    """Means of `corruption_errors` over the corruptions `names` (all), of the members that have
    them all: columns corrupted_accuracy, mce, relative_mce, excess_error; index: block, ratio,
    seed, pipeline."""
    errors = errors if names is None else among(errors, names)
    groups = errors.groupby(level=[*MEMBER, "pipeline"])
    means = groups.mean()[groups.size() == errors.index.get_level_values("shift").nunique()]
    return means.rename(columns={"ce": "mce", "relative_ce": "relative_mce"})


def among(errors: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
    """The rows of some corruptions."""
    return errors[errors.index.get_level_values("shift").isin(list(names))]


def accuracies(frame: pd.DataFrame, corrupted: pd.Series) -> pd.DataFrame:
    """Columns `clean` and `corrupted`, fractions, of members with a mean corrupted accuracy in
    percent, indexed like it."""
    clean = wide(usable(frame), "accuracy").stack().reindex(corrupted.index)
    return pd.DataFrame({"clean": clean, "corrupted": corrupted / 100})


def _mean_errors(
    errors: pd.DataFrame, names: Collection[str], suffix: str, parents: dict[str, str]
) -> list[pd.DataFrame]:
    """Estimates of mCE and relative mCE over some corruptions."""
    chosen, unit = among(errors, names), f"{PARENT}, mean of {named(names)}"
    means = over_shifts(chosen)
    missing = chosen["relative_ce"].isna().groupby(level=[*MEMBER[:-1], "pipeline"]).sum()
    mce, relative = (
        _long(means[name], f"{name}{suffix}", parents, unit) for name in ("mce", "relative_mce")
    )
    return [mce, _with_missing(relative, missing)]


def _long(
    values: pd.Series, quantity: str, parents: dict[str, str], unit: str = PARENT
) -> pd.DataFrame:
    table = over_seeds(values).reset_index()
    unit = UNITS.get(quantity, unit)
    baseline = "" if quantity == "corrupted_accuracy" else table["pipeline"].map(parents)
    return table.assign(quantity=quantity, baseline=baseline, unit=unit)


def _with_missing(table: pd.DataFrame, missing: pd.Series) -> pd.DataFrame:
    """`table` with the number of missing cells in its notes."""
    counts = missing.reindex(pd.MultiIndex.from_frame(table[missing.index.names])).to_numpy()
    show = pd.Series(np.nan_to_num(counts.astype(float)) > 0, index=table.index)
    words = [f"{int(count)} cells under 1 point missing" for count in counts[show]]
    notes = [
        f"{note}; {more}".lstrip("; ")
        for note, more in zip(table["note"][show], words, strict=True)
    ]
    return table.assign(note=table["note"].mask(show, pd.Series(notes, index=table.index[show])))
