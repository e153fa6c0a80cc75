"""What the claims of protocol S4 are about, as numbers per seed (the claims: `claims_exemplars`).

What is of a population is spread over its members: a rate of exemplars over draws of them, the
skewness of harm to classes by the jackknife (`exemplars.by_draw` and `by_member`); accuracies on
exemplars are those of members that had no part in choosing them. Pruned pipelines are those that do
nothing else; "the sparsest" is the one with the most weights taken. Claims that images differ at
all stand beside a dense population of other seeds, since dense populations differ, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from rcm.analysis.claims import Evidence
from rcm.analysis.claims_imbalance import slope, tail_beyond_head
from rcm.analysis.corruption import corruption_errors, over_shifts
from rcm.analysis.exemplars import by_member
from rcm.analysis.harm import normalised_changes
from rcm.analysis.measured import Measured, of_dense
from rcm.analysis.metrics import CLEAN, TRAINING
from rcm.analysis.mislabelled import KINDS, RIGHT, WRONG
from rcm.analysis.statistics import (
    BLOCK,
    COMPRESSED,
    MEMBER,
    PipelineInfo,
    by_seed,
    usable,
    wide,
)

Frame = pd.DataFrame
Pipelines = Sequence[PipelineInfo]
Estimator = Callable[[Measured], Evidence | None]


def same_accuracy(measured: Measured) -> Evidence | None:
    """C1a: change of accuracy against the parent, mean over pruned pipelines."""
    pruned = _pruned(measured.pipelines)
    values = 100 * _of(
        measured.frame, "accuracy", [*(p for p in measured.pipelines if p.kind == "dense"), *pruned]
    )
    pruned = [p for p in pruned if {p.name, p.parent} <= set(values)]
    return _mean(pd.DataFrame({p.name: values[p.name] - values[p.parent] for p in pruned}))


def divergent_images(measured: Measured) -> Evidence | None:
    """C1b: exemplars against independent dense members beyond those between dense members."""
    return _mean(excess_of_exemplars(measured.frame, _pruned(measured.pipelines)))


def growth(values: Callable[[Frame, list[PipelineInfo]], pd.DataFrame]) -> Estimator:
    """C2, C4a, C8: least-squares slope on sparsity, per 10 points of it, of `values` [seeds,
    pruned pipelines]; needs two sparsities."""

    def estimate(measured: Measured) -> Evidence | None:
        found = values(measured.frame, _pruned(measured.pipelines))
        sparsity = {p.name: 10 * p.sparsity for p in measured.pipelines}
        taken = np.array([sparsity[str(name)] for name in found.columns])
        if len(found) == 0 or np.unique(taken).size < 2:
            return None
        return Evidence(slope(found.T, taken).to_numpy())

    return estimate


def few_lose_much(measured: Measured) -> Evidence | None:
    """C3: skewness over classes of the change of normalised recall, at the highest sparsity."""
    of_blocks = [
        by_member(_skewness(change), np.array([_skewness(change.drop(s)) for s in change.index]))
        for p in _pruned(measured.pipelines)[-1:]
        for change in _changes(measured.frame, p)
        if min(change.shape) > 2
    ]
    return Evidence(np.mean(of_blocks, axis=0)) if len({len(v) for v in of_blocks}) == 1 else None


def harder_for(name: str) -> Estimator:
    """C4b, C5: accuracy on all other images minus that on the exemplars of the other members, mean
    over pruned pipelines; name: "parent_" for the dense members', "" for their own."""

    def estimate(measured: Measured) -> Evidence | None:
        pruned = _pruned(measured.pipelines)
        rest, on = (
            _of(measured.frame, f"{part}_{name}accuracy", pruned) for part in ("rest", "exemplar")
        )
        return _mean(100 * (rest - on).dropna())

    return estimate


def harder_than_chance(measured: Measured) -> Evidence | None:
    """C4c: dense accuracy on exemplars of dense members of other seeds minus that on those of
    pruned pipelines."""
    parts = [p for p in measured.pipelines if p.kind == "replica"], _pruned(measured.pipelines)
    values = 100 * _of(measured.frame, "exemplar_parent_accuracy", [*parts[0], *parts[1]])
    null, pruned = ([p.name for p in part if p.name in values] for part in parts)
    return _mean(values[pruned].rsub(values[null].mean(axis=1), axis=0)) if null else None


def doubted(kind: str) -> Estimator:
    """C6: mean doubt of exemplars minus that of the other images, mean over pruned pipelines."""

    def estimate(measured: Measured) -> Evidence | None:
        rows = measured.frame[measured.frame["cls"] == kind]
        return _mean(100 * _of(rows, "exemplar_doubt", _pruned(measured.pipelines)))

    return estimate


def more_where_corrupted(measured: Measured) -> Evidence | None:
    """C6c: rate of exemplars beyond that of dense members on corrupted images, minus on clean."""
    pruned = _pruned(measured.pipelines)
    clean = excess_of_exemplars(measured.frame, pruned)
    shifted = wide(measured.rows, "exemplar_excess", None, ("shift", "severity"))
    means = shifted.groupby(level=MEMBER).mean()
    corrupted = 100 * by_seed(means[[p.name for p in pruned if p.name in means]])
    return _mean((corrupted - clean).dropna())


def more_where_mislabelled(what: str) -> Estimator:
    """C6d, C6e: rate or excess of exemplars among training images with a wrong label minus that
    among the others, mean over pruned pipelines; labels planted or, without such, as people give
    them."""

    def estimate(measured: Measured) -> Evidence | None:
        for kind in KINDS:
            rows = measured.rows[measured.rows["cls"] == kind]
            wrong, right = (
                _of(rows, f"{group}_exemplar_{what}", _pruned(measured.pipelines), TRAINING)
                for group in (WRONG, RIGHT)
            )
            found = _mean(100 * (wrong - right).dropna())
            if found:
                return found._replace(note=f"wrong labels: {kind}")
        return None

    return estimate


def tail_of_pruned(measured: Measured) -> Evidence | None:
    """C7: as C7 of S1, of pruned pipelines: what rare classes lose more, against ratio 1."""
    names = {p.name for p in _pruned(measured.pipelines)}
    kept = [p for p in measured.pipelines if p.name in names or p.kind not in COMPRESSED]
    return tail_beyond_head(Measured(measured.frame, kept))


def quantized_spread(measured: Measured) -> Evidence | None:
    """C9a: spread of harm of integers after training minus that of the sparsest pipeline."""
    return _less_than_sparsest(spread_of_harm, measured)


def quantized_rate(measured: Measured) -> Evidence | None:
    """C9b: rate of exemplars of integers after training minus that of the sparsest pipeline."""
    return _less_than_sparsest(rate_of_exemplars, measured)


def quantized_spread_from_others(measured: Measured) -> Evidence | None:
    """C9c: as C9a, with changes against dense members of other seeds, who share with neither what
    integers share with the parents that they are made of, and pruned populations do not."""
    others = [p.name for p in measured.pipelines if p.kind == "replica"][:1]
    moved = [replace(p, parent=name) for name in others for p in of_dense(measured.pipelines)]
    return _less_than_sparsest(spread_of_harm, Measured(measured.frame, moved))


def quantized_excess(measured: Measured) -> Evidence | None:
    """C9d: as C9b, with rates against dense members of other seeds beyond the parents' own."""
    return _less_than_sparsest(excess_of_exemplars, measured)


def rare_subgroup(measured: Measured) -> Evidence | None:
    """C10: normalised change of the mean false answers to the rarest subgroup and class minus the
    mean of that of the same rate in other subgroups, at the highest sparsity."""
    rows = measured.rows
    counts = rows[rows["metric"].str.fullmatch("subgroup_false_(positive|negative)_train")]
    sparsest = _pruned(measured.pipelines)[-1:]
    if counts.empty or not sparsest:
        return None
    clean = rows.loc[rows["shift"] == CLEAN, ["metric", "cls"]]
    tested = pd.MultiIndex.from_frame(clean.drop_duplicates())
    names = counts["metric"].str.removesuffix("_train")
    counts = counts[pd.MultiIndex.from_arrays([names, counts["cls"]]).isin(tested)]
    if counts.empty:  # no image of any subgroup was tested
        return None
    rarest = counts.sort_values("value").iloc[0]
    rates = wide(rows, rarest["metric"].removesuffix("_train"), by=("cls",))
    if not {sparsest[0].name, sparsest[0].parent} <= set(rates):
        return None
    of_seeds = rates.groupby(level=["seed", "cls"]).mean().unstack("cls")
    own, parent = (pd.DataFrame(of_seeds[name]) for name in (sparsest[0].name, sparsest[0].parent))
    both = own.index[(own.notna() & parent.notna()).all(axis=1)]
    change = _change_of_means(own.loc[both], parent.loc[both])
    others = change.drop(columns=rarest["cls"]).mean(axis=1)
    values = (change[rarest["cls"]] - others).dropna()
    return Evidence(values.to_numpy(), note=f"rarest: {rarest['cls']}, {rarest['value']:g} images")


def _change_of_means(own: pd.DataFrame, parent: pd.DataFrame) -> pd.DataFrame:
    """100 (mean of own / mean of parent - 1) of each column, spread over the seeds, the rows. Among
    few images the mean of the seeds' ratios would be far above it, and without end where a parent
    makes no mistake. NaN where the parents make none, with or without one of them."""
    whole = own.mean() / parent.mean().where(lambda mean: mean > 0)
    if len(own) == 1:
        return 100 * (own / parent.where(parent > 0) - 1)
    others = parent.sum() - parent
    without = (own.sum() - own) / others.where(others > 0)
    pairs = zip(whole.to_numpy(), without.to_numpy().T, strict=True)
    spread = np.stack([by_member(all_seeds, rest) for all_seeds, rest in pairs], axis=1)
    return 100 * (pd.DataFrame(spread, own.index, own.columns) - 1)


def spread_of_harm(frame: Frame, pipelines: Pipelines) -> pd.DataFrame:
    """Mean over classes of the absolute change of normalised recall, points [seeds, pipelines].
    Chance has some of it, the same at all sparsities."""
    made = {}
    for pipeline in pipelines:
        changes = [change.abs().mean(axis=1) for change in _changes(frame, pipeline)]
        if changes:
            made[pipeline.name] = pd.concat(changes, axis=1).mean(axis=1)
    return pd.DataFrame(made).dropna()


def rate_of_exemplars(frame: Frame, pipelines: Pipelines) -> pd.DataFrame:
    """Percent of the clean test images [seeds, pipelines]."""
    return 100 * _of(frame, "exemplar_rate", pipelines)


def excess_of_exemplars(frame: Frame, pipelines: Pipelines) -> pd.DataFrame:
    """Percent of the clean test images beyond those between dense members [seeds, pipelines]."""
    return 100 * _of(frame, "exemplar_excess", pipelines)


def excess_errors(frame: Frame, pipelines: Pipelines) -> pd.DataFrame:
    """What corruption adds to clean error beyond the parent's, points [seeds, pipelines]."""
    parents = {p.parent for p in pipelines}
    dense = [PipelineInfo(name, name, "dense") for name in parents]
    values = over_shifts(corruption_errors(frame, [*dense, *pipelines]))["excess_error"]
    table = by_seed(values)
    return table[[p.name for p in pipelines if p.name in table]]


def _less_than_sparsest(values: Callable, measured: Measured) -> Evidence | None:
    after = [p for p in _of_study(measured.pipelines) if p.kind == "post_training"]
    quantized = [p for p in after if p.bits]
    sparsest = _pruned(measured.pipelines)[-1:]
    if sparsest and not quantized:
        return _without_bits(after)
    table = values(measured.frame, [*quantized, *sparsest])
    names = [p.name for p in quantized if p.name in table]
    if not names or not sparsest or sparsest[0].name not in table:
        return None
    return _mean(table[names].sub(table[sparsest[0].name], axis=0))


def _without_bits(after: Pipelines) -> Evidence | None:
    """What is missing of pipelines compressed after training, none of which has bits: of those made
    elsewhere the files may not tell them. None if there are none that could be quantized."""
    may = [p.label for p in after if not p.techniques or "quantize" in p.techniques]
    missing = f"bits are missing in the files of {', '.join(may)}: are these quantized?"
    return Evidence(np.empty(0), missing=missing) if may else None


def _of_study(pipelines: Pipelines) -> list[PipelineInfo]:
    """What is held against dense members, the parents or those of other seeds: without what is made
    of other networks, which have no populations."""
    dense = [p.name for kind in ("dense", "replica") for p in pipelines if p.kind == kind]
    return [p for p in pipelines if p.parent in dense]


def _pruned(pipelines: Pipelines) -> list[PipelineInfo]:
    """Pipelines that prune the dense network's weights and do nothing else, the sparsest last."""
    pruned = (p for p in _of_study(pipelines) if p.techniques == ("prune",))
    return sorted(pruned, key=lambda p: p.sparsity)


def _of(frame: Frame, metric: str, pipelines: Pipelines, shift: str = CLEAN) -> pd.DataFrame:
    """A metric on unshifted images, a row per seed and a column per pipeline, of those given."""
    values = wide(usable(frame), metric, shift)
    # before seeds are left out that lack one of the others
    return by_seed(values[[p.name for p in pipelines if p.name in values]])


def _changes(frame: Frame, pipeline: PipelineInfo) -> list[pd.DataFrame]:
    """`harm.normalised_changes` of each block and ratio, [seeds, classes]."""
    change = normalised_changes(frame, [pipeline])[pipeline.name]
    others = [*BLOCK, "ratio"]
    return [part.reset_index(others, drop=True) for _, part in change.groupby(level=others)]


def _skewness(change: pd.DataFrame) -> float:
    return float(stats.skew(change.to_numpy().mean(0)))


def _mean(values: pd.DataFrame) -> Evidence | None:
    return Evidence(values.mean(axis=1).to_numpy()) if values.size else None
