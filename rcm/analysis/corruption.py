"""Corruption error against the parent, in excess of clean error, per seed and then averaged."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from rcm.analysis.corruption_error import AS_PUBLISHED, UNROUNDED, averages, named
from rcm.analysis.effective import effective_robustness
from rcm.analysis.statistics import (
    MEMBER,
    PipelineInfo,
    difference,
    estimates,
    over_seeds,
    stacked,
    usable,
    wide,
)

MIN_DENOMINATOR = 0.01  # one point of error: below it relative CE is noise over noise
ERRORS = ["corrupted_accuracy", "ce", "relative_ce", "excess_error"]
PARENT, BASELINE = "percent of the parent", "percent of the baseline"
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
    shifted, clean = _error_rates(frame)
    parents = {p.name: p.parent or p.name for p in pipelines}
    known = [name for name, parent in parents.items() if {name, parent} <= set(shifted.columns)]
    if not known:
        index = pd.MultiIndex.from_arrays([[]] * 7, names=[*MEMBER, "pipeline", "shift"])
        return pd.DataFrame(index=index, columns=ERRORS, dtype=float)
    columns = (known, [parents[name] for name in known])
    pairs = [table[names].to_numpy() for table in (shifted, clean) for names in columns]
    both = ~np.isnan(pairs[0]) & ~np.isnan(pairs[1])
    severities = shifted.index.to_frame(False).groupby("shift")["severity"].nunique()
    values = np.hstack([both, *(np.where(both, part, np.nan) for part in pairs)])
    groups = pd.DataFrame(values, shifted.index).groupby(level=[*MEMBER, "shift"])
    means, counts = groups.mean(), groups.sum().to_numpy()[:, : len(known)]
    of_study = severities[means.index.get_level_values("shift")].to_numpy()
    complete = counts == of_study[:, None]
    found = _against_parents(*np.hsplit(means.to_numpy()[:, len(known) :], 4))
    tables = {
        name: pd.DataFrame(found[there, place], means.index[there], ERRORS)
        for place, (name, there) in enumerate(zip(known, complete.T, strict=True))
    }
    return pd.concat(tables, names=["pipeline"]).reorder_levels([*MEMBER, "pipeline", "shift"])


def _error_rates(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Error on shifted images, indexed by member, shift and severity, a column per pipeline; the
    same members' on clean ones, in the same places."""
    rows = usable(frame, "accuracy")
    shifted = 1 - wide(rows, "accuracy", None, ("shift", "severity"))
    clean = (1 - wide(rows, "accuracy")).reindex(columns=shifted.columns)
    members = shifted.reset_index(["shift", "severity"], drop=True).index
    return shifted, clean.reindex(members)


def excess_by_severity(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """What each corruption adds to clean error at each severity beyond what it adds to the
    parent's, (E(s) - E0) - (P(s) - P0) in points, paired by seed; long, with `shift` and
    `severity`. Its mean over the severities is the excess_error of `corruption_errors`."""
    shifted, clean = _error_rates(frame)
    rise = 100 * (shifted - clean.to_numpy())
    return estimates(
        {
            (p.name, "excess_error", p.parent, "points"): difference(rise, p.name, p.parent)
            for p in pipelines
            if p.parent and {p.name, p.parent} <= set(rise.columns)
        }
    )


def _against_parents(e: np.ndarray, p: np.ndarray, e0: np.ndarray, p0: np.ndarray) -> np.ndarray:
    """`ERRORS` [..., 4] of mean error rates [...] of members and parents, shifted and clean."""
    rise, parent_rise = e - e0, p - p0
    ce = e / np.where(p > 0, p, np.nan)
    relative_ce = rise / np.where(parent_rise >= MIN_DENOMINATOR, parent_rise, np.nan)
    return 100 * np.stack([1 - e, ce, relative_ce, rise - parent_rise], axis=-1)


def corruption_summary(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(per corruption, over corruptions), long estimate tables like `gap_table`, and (lines).

    The first has a `shift` column and the quantities corrupted_accuracy, ce, relative_ce and
    excess_error; the second averages them over corruptions within a seed first (mce, relative_mce,
    over `averages`, which the unit names; the others over all), leaves out a seed that lacks a
    corruption, and counts in its note the (seed, corruption) cells without a relative CE. mce and
    relative_mce are there against the parent and, where that is another, against the primary
    baseline; rounded as published, too, as mce_rounded and relative_mce_rounded.
    Where there are dense networks enough it also has the quantity effective_robustness, and the
    third the lines that it is read off.
    """
    errors = corruption_errors(frame, pipelines)
    parents = {pipeline.name: pipeline.parent for pipeline in pipelines}
    by_shift = [_long(errors[name], name, parents) for name in errors.columns]
    means = over_shifts(errors)
    overall = [_long(means[name], name, parents) for name in UNITS]
    others = [replace(p, parent=p.baseline) for p in pipelines if p.baseline not in ("", p.parent)]
    baselines = {pipeline.name: pipeline.parent for pipeline in others}
    beside = corruption_errors(frame, others)
    for suffix, names in averages(errors.index.unique("shift")).items():
        overall += _mean_errors(errors, names, suffix, parents, PARENT)
        overall += _mean_errors(errors, names, suffix, parents, PARENT, rounded=True)
        overall += _mean_errors(beside, names, suffix, baselines, BASELINE)
        overall += _mean_errors(beside, names, suffix, baselines, BASELINE, rounded=True)
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
    errors: pd.DataFrame,
    names: Collection[str],
    suffix: str,
    references: dict[str, str],
    percent: str,
    rounded: bool = False,
) -> list[pd.DataFrame]:
    """Estimates of mCE and relative mCE over some corruptions; none without errors. Rounded as
    published: of each member every CE to an integer and the mean to one decimal."""
    if errors.empty:
        return []
    chosen = among(errors, names)
    means = over_shifts(chosen.round({"ce": 0, "relative_ce": 0}) if rounded else chosen)
    if rounded:
        means = means.round({"mce": 1, "relative_mce": 1})
        suffix = f"_rounded{suffix}"
    unit = f"{percent}, {AS_PUBLISHED if rounded else UNROUNDED}, mean of {named(names)}"
    missing = chosen["relative_ce"].isna().groupby(level=[*MEMBER[:-1], "pipeline"]).sum()
    mce, relative = (
        _long(means[name], f"{name}{suffix}", references, unit) for name in ("mce", "relative_mce")
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
    words = [f"{int(n)} cell{'' if n == 1 else 's'} under 1 point missing" for n in counts[show]]
    notes = [
        f"{note}; {more}".lstrip("; ")
        for note, more in zip(table["note"][show], words, strict=True)
    ]
    return table.assign(note=table["note"].mask(show, pd.Series(notes, index=table.index[show])))
