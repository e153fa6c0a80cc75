"""Trade-offs: which pipelines no other one beats in several objectives at once, and how surely."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import moocore
import numpy as np
import pandas as pd

from rcm.analysis.attacks import WORST
from rcm.analysis.corruption import corruption_errors, over_shifts
from rcm.analysis.corruption_error import counted
from rcm.analysis.resampling import DRAWS, drawn_seeds
from rcm.analysis.statistics import BLOCK, COMPRESSED, PipelineInfo, usable, wide

LARGER = {  # objectives, and whether more of one is better
    "bytes": False,
    "macs": False,
    "accuracy": True,
    "recall_tail": True,
    "corrupted_accuracy": True,
    "mce": False,
    "relative_mce": False,
    "robust_accuracy": True,
}
COSTS = ("bytes", "macs")  # whose ratios count, not differences
ERRORS = ("mce", "relative_mce")  # of the corruptions whose accuracy is among the goals
PUBLISHED = ["bytes", "mce", "accuracy"]  # of the front of arXiv 2512.24971
BUDGETS = (2, 4, 8, 16)  # times smaller than the dense parent


class Values(NamedTuple):
    """What is compared in one block at one ratio: pipelines [N], objectives [K], whether more is
    better [K], and values float64 [N, seeds, K]."""

    pipelines: list[str]
    objectives: list[str]
    larger: np.ndarray
    values: np.ndarray


def objectives(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """A column for each of `LARGER` that the study has, fractions, bytes and multiply-accumulates,
    indexed by block, ratio, seed and pipeline; none without sizes, for which all others are traded.

    macs are those of an image as dense hardware computes it, so that pruned filters lower them and
    pruned weights do not; they are left out where all pipelines have the same.
    recall_tail is left out where all classes are equally frequent; corrupted_accuracy is the mean
    over corruptions, mce and relative_mce, in percent, those over the benchmark's, without the
    extra ones;
    robust_accuracy the worst case over attacks at the middle one of their radii. Replicas do not
    compete: dense members of other seeds would push their likes off a front, paired with nothing.
    """
    others = [p.name for p in pipelines if p.kind == "replica"]
    frame = frame[~frame["pipeline"].isin(others)]
    rows = usable(frame)
    found = {name: wide(rows, name).stack() for name in ("bytes", "macs", "accuracy")}
    tails = wide(rows, "recall_tail")
    tails = tails[tails.index.get_level_values("ratio") > 1]
    errors = corruption_errors(frame, pipelines)
    benchmark = counted(errors.index.unique("shift"))
    found |= dict(over_shifts(errors, benchmark)[list(ERRORS)].dropna(axis="columns", how="all"))
    corrupted = over_shifts(errors)["corrupted_accuracy"] / 100
    worst = wide(rows, "robust_accuracy", WORST, by=("severity",))
    radii = sorted(worst.index.unique("severity"))
    if radii:
        worst = worst.xs(radii[(len(radii) - 1) // 2], level="severity")
        found["robust_accuracy"] = worst.stack()
    found |= {"recall_tail": tails.stack(), "corrupted_accuracy": corrupted}
    known = {name: found[name] for name in LARGER if len(found.get(name, ()))}
    table = pd.DataFrame(known if "bytes" in known else {})
    alike = "macs" in table and table["macs"].nunique() < 2
    return table.drop(columns="macs") if alike else table


def by_block(table: pd.DataFrame, chosen: Sequence[str]) -> dict[tuple, Values]:
    """The members of `objectives` as arrays by (block, ratio), in those of the columns `chosen`
    that have values there, if they are two or more; pipelines without a value are left out, and so
    are seeds that lack one of the others."""
    made = {}
    for key, part in table[list(chosen)].groupby(level=[*BLOCK, "ratio"], sort=False):
        members = part.dropna(axis="columns", how="all").droplevel([*BLOCK, "ratio"])
        seeds = pd.DataFrame(members.unstack("pipeline"))
        seeds = seeds.dropna(axis="columns", how="all").dropna()
        columns = list(dict.fromkeys(seeds.columns.get_level_values(0)))
        counts = seeds.columns.get_level_values(1).value_counts(sort=False)
        names = [str(name) for name, count in counts.items() if count == len(columns)]
        if len(columns) > 1 and len(seeds):
            values = np.stack([seeds[c][names].to_numpy().T for c in columns], axis=-1)
            larger = np.array([LARGER[c] for c in columns])
            made[key] = Values(names, columns, larger, values)
    return made


def on_front(points: np.ndarray, larger: np.ndarray) -> np.ndarray:
    """Whether none of the points [N, K] is at least as good in all objectives and better in one,
    bool [N]; equal points, up to the rounding of their means, are all on the front."""
    return moocore.is_nondominated(points.round(9), maximise=larger.tolist(), keep_weakly=True)


def resampled(values: np.ndarray) -> np.ndarray:
    """Means [DRAWS, N, K] over seeds that are drawn with replacement, the same for all pipelines,
    since they share seeds. Few seeds make such a bootstrap too narrow: for a mean it covers 75 % at
    n = 3 and 84 % at 5 where 95 are meant (protocols)."""
    pipelines, seeds, objectives = values.shape
    sums = np.zeros((pipelines * objectives, DRAWS))
    for counts, own in zip(_counts(seeds), values.transpose(1, 0, 2), strict=True):
        sums += own.reshape(-1, 1) * counts  # in a matrix product equal pipelines may differ
    return (sums / seeds).T.reshape(DRAWS, pipelines, objectives)


@functools.lru_cache(maxsize=1)  # the same for all objectives of a study
def _counts(seeds: int) -> np.ndarray:
    """How often each seed is drawn, float64 [seeds, DRAWS]."""
    counts = [np.bincount(draw, minlength=seeds) for draw in drawn_seeds(seeds)]
    return np.stack(counts, axis=1).astype(np.float64)


def membership(found: Values) -> tuple[np.ndarray, np.ndarray]:
    """(whether each pipeline's means are on the front, bool [N]; the share of resampled studies in
    which they are, NaN of a single seed, [N])."""
    means = on_front(found.values.mean(1), found.larger)
    if found.values.shape[1] < 2:
        return means, np.full(len(means), np.nan)
    draws = [on_front(points, found.larger) for points in resampled(found.values)]
    return means, np.mean(draws, axis=0)


def in_box(points: np.ndarray, found: Values) -> np.ndarray:
    """Points [..., N, K] between 0, the worst of N in an objective, and 1, the best: more is better
    in all; costs by their logarithms."""
    logarithmic = np.isin(found.objectives, COSTS)
    points = np.where(logarithmic, np.log(np.where(logarithmic, points, 1.0)), points)
    points = np.where(found.larger, points, -points)
    spread = np.ptp(points, axis=-2, keepdims=True)
    scaled = (points - points.min(-2, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, scaled, 1.0)


def hypervolume(found: Values) -> tuple[float, float, float]:
    """The share of the box between the worst and the best mean of every objective that the front
    covers (Zitzler & Thiele 1998), and its 95 % percentile interval over resampled seeds, each in
    its own box; NaN of a single seed."""
    means = found.values.mean(1)
    draws = resampled(found.values) if found.values.shape[1] > 1 else np.empty((0, *means.shape))
    corner = np.zeros(len(found.objectives))
    covered = [
        float(moocore.hypervolume(box, ref=corner, maximise=True))
        for box in in_box(np.concatenate([means[None], draws]), found)
    ]
    low, high = np.percentile(covered[1:], (2.5, 97.5)) if len(draws) else (np.nan, np.nan)
    return covered[0], float(low), float(high)


def knee(found: Values) -> str:
    """The pipeline on the front whose means are nearest to the best of every objective at once, in
    the box of `in_box` (the compromise solution of Yu 1973)."""
    means = in_box(found.values.mean(1), found)
    front = on_front(means, np.ones(means.shape[1], bool))
    return found.pipelines[int(np.where(front, ((1 - means) ** 2).sum(1), np.inf).argmin())]


def traded(table: pd.DataFrame) -> dict[str, list[str]]:
    """The sets of `objectives` in `table` that are shown, by the name of a column: stored size
    with each goal by the goal's, multiply-accumulates with accuracy by "macs", and the three that
    are `PUBLISHED` by "mce"."""
    chosen = {name: ["bytes", name] for name in goals(table)}
    further = {"macs": ["macs", "accuracy"], "mce": PUBLISHED}
    return chosen | {name: own for name, own in further.items() if set(own) <= set(table)}


def goals(table: pd.DataFrame) -> list[str]:
    """The `objectives` in `table` that are no costs; of corruption the accuracy, which the
    `ERRORS` would count twice."""
    return [name for name in table.columns if name not in (*COSTS, *ERRORS)]


def ranked(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """By what of `objectives` the dense parents and the compressed pipelines are ranked, more of it
    being better: the `goals`, but for corrupted accuracy the negative `ERRORS`, as published.

    Controls are no competitors: dense networks of other budgets would tell a table apart in which
    all techniques are alike.
    """
    names = [p.name for p in pipelines if p.kind in (*COMPRESSED, "dense")]
    rows = table[table.index.isin(names, level="pipeline")] if len(table) else table
    kept = rows[[name for name in goals(rows) if name != "corrupted_accuracy"]]
    return kept.join(-rows[[name for name in ERRORS if name in rows]])


def chosen_objectives(table: pd.DataFrame, named: Sequence[str] = ()) -> dict[str, list[str]]:
    """What is `traded`, all costs and `goals` in `table` together ("all") if that is more, and the
    `named` ones (as "bytes+mce") if `table` has them all."""
    every = [name for name in table.columns if name not in ERRORS]
    chosen = traded(table) | ({"all": every} if len(every) > 2 else {})
    return chosen | ({"+".join(named): list(named)} if named and set(named) <= set(table) else {})


def fronts(
    table: pd.DataFrame, pipelines: Sequence[PipelineInfo], named: Sequence[str] = ()
) -> pd.DataFrame:
    """Fronts of the `chosen_objectives`, long:
    block, ratio, pipeline, objectives, on_front, membership, knee, n."""
    order = [p.name for p in pipelines]
    rows = []
    for title, columns in chosen_objectives(table, named).items():
        for key, found in by_block(table, columns).items():
            means, share = membership(found)
            best = knee(found)
            for name, at_front, p in sorted(
                zip(found.pipelines, means, share, strict=True), key=lambda row: order.index(row[0])
            ):
                row = (*key, name, title, bool(at_front), float(p), name == best)
                rows.append((*row, found.values.shape[1]))
    names = [*BLOCK, "ratio", "pipeline", "objectives", "on_front", "membership", "knee", "n"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def volumes(table: pd.DataFrame, named: Sequence[str] = ()) -> pd.DataFrame:
    """`hypervolume` of the `chosen_objectives`: block, ratio, objectives, mean, lo, hi, n."""
    rows = [
        (*key, title, *hypervolume(found), found.values.shape[1])
        for title, columns in chosen_objectives(table, named).items()
        for key, found in by_block(table, columns).items()
    ]
    return pd.DataFrame(
        rows, columns=pd.Index([*BLOCK, "ratio", "objectives", "mean", "lo", "hi", "n"])
    )


def budgets(sizes: np.ndarray, parent: float) -> list[tuple[float, float]]:
    """(times, bytes) of what may be asked of pipelines with mean `sizes`: at most the dense
    parent's over 2, 4, 8, 16 (none of a parent that is not there, NaN), then KiB by powers of two
    (times NaN), from the first that any of them meets to the last that not all do."""
    of_parent = [(float(times), parent / times) for times in BUDGETS if parent > 0]
    low, high = np.log2(sizes.min() / 1024), np.log2(sizes.max() / 1024)
    in_kib = [(np.nan, 1024 * 2.0**k) for k in range(int(np.ceil(low)), int(np.ceil(high)))]
    return of_parent + in_kib


def best_under(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """The best pipeline whose mean size is within each of the `budgets`, by each of the `goals` in
    `table`: block, ratio, times, kib (the budget), objective, pipeline, bytes, value (means), share
    (of resampled studies in which it is the best among those small enough), n.

    Budgets that nothing meets have no row.
    """
    dense = [p.name for p in pipelines if p.kind == "dense"]
    rows = []
    for name in goals(table):
        for key, found in by_block(table, ["bytes", name]).items():
            means = found.values.mean(1)
            known = dict(zip(found.pipelines, means[:, 0], strict=True))
            parents = [known[name] for name in dense if name in known]
            for times, most in budgets(means[:, 0], parents[0] if parents else np.nan):
                small = np.flatnonzero(means[:, 0] <= most)
                if small.size:
                    best = small[means[small, 1].argmax()]
                    drawn = resampled(found.values[small])[..., 1].argmax(1)
                    share = float((small[drawn] == best).mean())
                    about = (name, found.pipelines[best], *means[best], share)
                    rows.append((*key, times, most / 1024, *about, found.values.shape[1]))
    names = ["times", "kib", "objective", "pipeline", "bytes", "value", "share", "n"]
    return pd.DataFrame(rows, columns=pd.Index([*BLOCK, "ratio", *names]))
