"""Does a pipeline forget the same images under one corruption as under others?"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.exemplars import Flags, jaccard, jaccard_by_chance
from rcm.analysis.forgotten import PLACE

Place = tuple  # the values of `PLACE`
COLUMNS = [*PLACE, "pipeline", "other", "jaccard", "by_chance", "null"]


def shift_overlaps(
    chosen: Mapping[Place, Mapping[str, Flags]], replicas: Sequence[str]
) -> pd.DataFrame:
    """One row per pipeline and two corruptions (`shift`, `other`) of one ratio and severity: the
    Jaccard index of its exemplars under both, what sets of these sizes drawn independently would
    have, and, for a null, that of dense members of other seeds (NaN without them).

    chosen: by cell and pipeline, whether the images, which are the same in all cells, are exemplars
    bool [N].
    """
    rows = []
    for (one, first), (two, second) in itertools.combinations(chosen.items(), 2):
        if (*one[:4], one[5]) != (*two[:4], two[5]):
            continue
        shared = [name for name in first if name in second]
        again = next((name for name in replicas if name in shared), None)
        null = jaccard(first[again], second[again]) if again else np.nan
        for name in shared:
            pair = (first[name], second[name])
            found = (jaccard(*pair), jaccard_by_chance(*pair), null)
            rows.append((*one, name, two[4], *found))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def over_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Means of the table over all pairs of corruptions: block, ratio, severity, pipeline, jaccard,
    by_chance, null, pairs."""
    groups = table.groupby([*PLACE[:4], "severity", "pipeline"], sort=False)
    means = groups[["jaccard", "by_chance", "null"]].mean()
    return means.assign(pairs=groups.size()).reset_index()


def middle(severities: Sequence[float]) -> float:
    """The severity at which corruptions are compared: the middle one, the lower of two."""
    known = sorted(set(severities))
    return known[(len(known) - 1) // 2]
