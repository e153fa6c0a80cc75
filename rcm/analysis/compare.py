"""Two runs side by side: B - A of what both have measured, with its interval and test."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from rcm.analysis.attacks import WORST
from rcm.analysis.corruption import corruption_errors, over_shifts
from rcm.analysis.corruption_error import counted, named
from rcm.analysis.metrics import CLEAN
from rcm.analysis.runs import (
    NOTHING,
    Run,
    attack_sets,
    corruption_cells,
    of_block,
    pairings,
    place_of,
)
from rcm.analysis.significance import welch
from rcm.analysis.statistics import (
    BLOCK,
    Estimate,
    PipelineInfo,
    difference,
    gap,
    holm,
    no_spread,
    paired_t,
    summarise,
    usable,
    wide,
)

PAIRED, WELCH, SAME, ALONE = "paired", "Welch", "the same members", "no test"
UNITS = {
    "accuracy": "points",
    "recall_tail": "points",
    "gap": "points",
    "did": "points",
    "corrupted_accuracy": "points",
    "mce": "percent of the parent",
    "excess_error": "points",
    "robust_accuracy": "points",
    "bytes": "KiB",
}
Key = tuple[str, str, float]  # quantity, shift, severity
Place = tuple[float, str]  # ratio, pipeline
COLUMNS = [
    *("place", "ratio", "pipeline", "quantity", "shift", "severity", "unit", "a", "b"),
    *Estimate._fields,
    *("n_a", "n_b", "test", "p", "p_holm"),
]


def member_values(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo], cells: set[tuple[str, float]]
) -> dict[Key, pd.DataFrame]:
    """Values of the members of one block in the units of `UNITS`, by (quantity, shift, severity),
    the last two "" and 0 but for attacks; each as `wide` has them, a column per pipeline.

    cells: the corruptions that count. gap is accuracy at ratio 1 minus accuracy, did the same minus
    that of the parent; mce and excess_error are against the run's own parent (see
    `analysis.corruption`); robust_accuracy is the worst case over a run's attacks.
    """
    rows, parents = usable(frame), {p.name: p.parent for p in pipelines if p.parent}
    accuracy, tails = (wide(rows, metric) for metric in ("accuracy", "recall_tail"))
    gaps = gap(accuracy)
    dids = {name: difference(gaps, name, parent) for name, parent in parents.items()}
    found = {
        "accuracy": 100 * accuracy,
        "recall_tail": 100 * tails[tails.index.get_level_values("ratio") > 1],
        "gap": gaps,
        "did": pd.DataFrame(dids, index=gaps.index),
        **_under_corruption(frame, pipelines, cells),
        "bytes": wide(rows, "bytes") / 1024,
    }
    values: dict[Key, pd.DataFrame] = {(name, "", 0.0): table for name, table in found.items()}
    for shift in sorted(s for s in rows["shift"].unique() if s.startswith(WORST)):
        worst = 100 * wide(rows, "robust_accuracy", shift, by=("severity",))
        for eps, part in worst.groupby(level="severity"):
            values["robust_accuracy", shift, float(str(eps))] = part.droplevel("severity")
    return values


def _unit(quantity: str, cells: set[tuple[str, float]]) -> str:
    """`UNITS`; of mCE also what it is a mean over."""
    over = f", mean of {named(counted({shift for shift, _ in cells}))}"
    return UNITS[quantity] + (over if quantity == "mce" else "")


def _under_corruption(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo], cells: set[tuple[str, float]]
) -> dict[str, pd.DataFrame]:
    places = pd.MultiIndex.from_frame(frame[["shift", "severity"]])
    kept = frame[(frame["shift"] == CLEAN).to_numpy() | places.isin(list(cells))]
    errors = corruption_errors(kept, pipelines)
    means = over_shifts(errors)
    benchmark = over_shifts(errors, counted(errors.index.unique("shift")))
    children = [pipeline.name for pipeline in pipelines if pipeline.parent]

    def of(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
        compared = table.index.get_level_values("pipeline").isin(children)
        return pd.DataFrame(table.loc[compared, quantity].unstack("pipeline"))

    return {
        "corrupted_accuracy": pd.DataFrame(means["corrupted_accuracy"].unstack("pipeline")),
        "mce": of(benchmark, "mce"),
        "excess_error": of(means, "excess_error"),
    }


def independent(a: ArrayLike, b: ArrayLike) -> tuple[Estimate, float]:
    """(mean of b - mean of a with the 95 % interval of Welch 1947, p of `welch`); n is the smaller.

    Without two values on both sides there is neither; without spread on both there is no interval.
    """
    a, b = (np.asarray(values, np.float64) for values in (a, b))
    change, n = float(b.mean() - a.mean()), min(a.size, b.size)
    if n < 2:
        return Estimate(change, np.nan, np.nan, n, f"no interval (n = {n})"), np.nan
    note = "unreliable (n = 2)" if n == 2 else ""
    if no_spread(a) and no_spread(b):
        return Estimate(change, np.nan, np.nan, n, note), welch(a, b)
    parts = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size  # of the squared standard error
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (a.size - 1) + parts[1] ** 2 / (b.size - 1))
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts)))
    return Estimate(change, change - half, change + half, n, note), welch(a, b)


def compare(a: Run, b: Run) -> pd.DataFrame:
    """B - A, one row per block (`place`), ratio, pipeline and quantity that both runs have.

    a, b: means over the members compared; mean, lo, hi, n, note: of the change; n_a, n_b: members;
    test: how (`PAIRED` by seed where the members are, by a paired t interval, else `WELCH`); p and,
    over all rows of the table, p_holm. Members that are the same in both runs (one fingerprint, one
    value) are named and not tested. Raises ValueError if the runs have nothing in common.
    """
    rows, order = [], [pipeline.name for pipeline in a.pipelines]
    for pairing in pairings(a, b):
        left, right = of_block(a.frame, pairing.a), of_block(b.frame, pairing.b)
        cells = corruption_cells(left) & corruption_cells(right)
        attacks = attack_sets(left), attack_sets(right)
        marks = _marks(left), _marks(right)
        ours = member_values(left, a.pipelines, cells)
        theirs = member_values(right, b.pipelines, cells)
        for key in (key for key in ours if key in theirs):
            if attacks[0].get(key[1:]) != attacks[1].get(key[1:]):
                continue  # worst cases over other attacks
            in_a, in_b = _by_place(ours[key]), _by_place(theirs[key])
            for place in sorted(in_a, key=lambda place: (place[0], order.index(place[1]))):
                if place in in_b:
                    same = _same(marks[0].get(place, {}), marks[1].get(place, {}))
                    found = _change(in_a[place], in_b[place], not pairing.reason, same)
                    rows.append((place_of(pairing), *place, *key, _unit(key[0], cells), *found))
    if not rows:
        raise ValueError(NOTHING)
    table = pd.DataFrame(rows, columns=pd.Index([c for c in COLUMNS if c != "p_holm"]))
    return table.assign(p_holm=holm(table["p"]))


def _by_place(table: pd.DataFrame) -> dict[Place, pd.Series]:
    """Values by seed of each ratio and pipeline that has any."""
    return {
        (float(str(ratio)), str(name)): values.droplevel([*BLOCK, "ratio"])
        for name in table.columns
        for ratio, values in table[name].dropna().groupby(level="ratio")
    }


def _marks(frame: pd.DataFrame) -> dict[Place, dict[int, str]]:
    """The members' fingerprints, if the results have them, by ratio, pipeline and seed."""
    if "fingerprint" not in frame:
        return {}
    found: dict[Place, dict[int, str]] = {}
    members = frame[["ratio", "pipeline", "seed", "fingerprint"]].drop_duplicates()
    for ratio, pipeline, seed, mark in members.itertuples(index=False, name=None):
        found.setdefault((ratio, pipeline), {})[seed] = mark
    return found


def _same(a: dict[int, str], b: dict[int, str]) -> bool:
    """Whether the members of all shared seeds are the same."""
    seeds = set(a) & set(b)
    return bool(seeds) and all(a[seed] == b[seed] for seed in seeds)


def _change(a: pd.Series, b: pd.Series, paired: bool, same: bool) -> tuple:
    """(a, b, estimate ..., n_a, n_b, test, p) of the values of two runs by seed.

    Members that would be paired but share fewer than two seeds are compared as independent ones.
    """
    seeds = a.index.intersection(b.index)
    if paired and len(seeds) > 1:
        a, b = a.loc[seeds], b.loc[seeds]
        change, p, test = summarise(b - a), paired_t(b - a), PAIRED
        if same and no_spread([0.0, *(b - a)]):
            p, test = np.nan, SAME
    else:
        change, p = independent(a, b)
        test = WELCH if change.n > 1 else ALONE
    return (float(a.mean()), float(b.mean()), *change, len(a), len(b), test, p)
