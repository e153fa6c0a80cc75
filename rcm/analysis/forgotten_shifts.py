"""Does a pipeline forget the same images under one corruption as under others?"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.exemplars import Chosen, jaccard, jaccard_by_chance, overlap_by_member
from rcm.analysis.forgotten import PLACE
from rcm.analysis.statistics import summarise

Place = tuple  # the values of `PLACE`
WHERE = (*PLACE[:4], "severity", "pipeline")
VALUES = ("jaccard", "lo", "hi", "by_chance", "null")
PAIRS, MEANS = "exemplar_shifts", "exemplar_shift_means"  # tables


def shift_overlaps(
    chosen: Mapping[Place, Mapping[str, Chosen]], replicas: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Two tables of the Jaccard index of a pipeline's exemplars under two corruptions of one ratio
    and severity, with its 95 % interval over draws of members (lo, hi; NaN where not the same ones
    answered both, or where they, or a draw of them, have no exemplars), what sets of these sizes
    drawn independently would have (by_chance), and, for a null, that of dense members of other
    seeds (NaN without them).

    exemplar_shifts: a row per pipeline and two corruptions (`shift`, `other`);
    exemplar_shift_means: a row per pipeline, the mean over all pairs of corruptions that have any,
    how many there are (pairs). chosen: by cell, whose images are the same ones, and pipeline.
    """
    rows, spreads = [], {}
    for (one, first), (two, second) in itertools.combinations(chosen.items(), 2):
        where = (*one[:4], one[5])
        if where != (*two[:4], two[5]):
            continue
        shared = [name for name in first if name in second]
        again = next((name for name in replicas if name in shared), None)
        null = jaccard(first[again].whole, second[again].whole) if again else np.nan
        for name in shared:
            whole = (first[name].whole, second[name].whole)
            spread = _spread(first[name], second[name])
            if (first[name].whole | second[name].whole).any():
                spreads.setdefault((*where, name), []).append(spread)
            interval = summarise(spread)
            found = (jaccard(*whole), interval.lo, interval.hi, jaccard_by_chance(*whole), null)
            rows.append((*where, name, one[4], two[4], *found))
    table = pd.DataFrame(rows, columns=pd.Index([*WHERE, "shift", "other", *VALUES]))
    return {PAIRS: table, MEANS: _over_pairs(table, spreads)}


def _spread(one: Chosen, two: Chosen) -> np.ndarray:
    """`overlap_by_member`, NaN where a member gave no answers under one of the corruptions."""
    if one.seeds != two.seeds:
        return np.full(len(one.redrawn), np.nan)
    return overlap_by_member(one, two)


def _over_pairs(table: pd.DataFrame, spreads: Mapping[tuple, list[np.ndarray]]) -> pd.DataFrame:
    """Means over pairs of corruptions, with the interval of what they are together in each draw."""
    groups = table.groupby(list(WHERE), sort=False)
    means = groups[["jaccard", "by_chance", "null"]].mean()
    means = means.assign(pairs=groups["jaccard"].count())
    together = [summarise(_mean(spreads.get(key, []))) for key in means.index]
    means = means.assign(lo=[one.lo for one in together], hi=[one.hi for one in together])
    return means.reset_index()[[*WHERE, *VALUES, "pairs"]]


def _mean(spreads: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over pairs [n]; NaN where one of them has no spread."""
    whole = len(spreads) > 0 and not np.isnan(np.concatenate(spreads)).any()
    return np.mean(spreads, axis=0) if whole else np.array([np.nan])


def middle(severities: Sequence[float]) -> float:
    """The severity at which corruptions are compared: the middle one, the lower of two."""
    known = sorted(set(severities))
    return known[(len(known) - 1) // 2]
