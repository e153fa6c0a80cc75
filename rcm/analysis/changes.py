"""What compression changes, tested also without normality, and what so many seeds could show."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rcm.analysis.metrics import CLEAN
from rcm.analysis.power import detectable_effect, paired_power
from rcm.analysis.significance import sign_flip, wilcoxon
from rcm.analysis.statistics import (
    BLOCK,
    PipelineInfo,
    difference,
    estimates,
    no_spread,
    paired_t,
    usable,
    wide,
)

CHANGES = {"accuracy": "accuracy_change", "recall_tail": "tail_change"}
STATED = 1.0  # points, the effect whose power is told
TESTS = ["p", "p_sign_flip", "p_wilcoxon", "smallest_p", "detectable", "power"]
Key = tuple[str, str, str, str]  # pipeline, quantity, baseline, unit


def per_seed_changes(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> dict[Key, pd.Series]:
    """What a pipeline's accuracy and recall of rare classes differ by, in points, paired by seed,
    from its primary baseline and from its parent; as `estimates` takes them."""
    parts, rows = {}, usable(frame)
    rows = rows[rows["shift"] == CLEAN]
    for metric, quantity in CHANGES.items():
        values = 100 * wide(rows, metric)
        for pipeline in pipelines:
            for other in dict.fromkeys(filter(None, (pipeline.baseline, pipeline.parent))):
                change = difference(values, pipeline.name, other)
                parts[pipeline.name, quantity, other, "points"] = change
    return parts


def changes_tested(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """The estimates of `per_seed_changes` with `several_tests`, uncorrected, one row each."""
    parts = per_seed_changes(frame, pipelines)
    table = estimates(parts)
    place = [*BLOCK, "ratio"]
    found = {}
    for key, changes in parts.items():
        for where, values in pd.DataFrame(changes.rename("change").dropna()).groupby(place):
            found[*key, *where] = several_tests(values["change"].to_numpy())
    keys = ["pipeline", "quantity", "baseline", "unit", *place]
    rows = [found[key] for key in table[keys].itertuples(index=False, name=None)]
    return pd.concat([table, pd.DataFrame(rows, table.index, TESTS)], axis="columns")


def several_tests(differences: np.ndarray) -> dict[str, float]:
    """Of one difference per seed, without NaN: p of the paired t test, of sign flips and of
    Wilcoxon's, the least p that these two can have; the effect that a t test of so many seeds of
    this spread detects in 80 %, and its power for `STATED`; NaN without a test or spread."""
    flips, n = sign_flip(differences), differences.size
    spread = n > 1 and not no_spread(differences)
    sd = float(differences.std(ddof=1)) if spread else np.nan
    return {
        "p": paired_t(differences),
        "p_sign_flip": flips.p,
        "p_wilcoxon": wilcoxon(differences).p,
        "smallest_p": flips.smallest_p,
        "detectable": detectable_effect(sd, n),
        "power": paired_power(STATED, sd, n) if spread else np.nan,
    }
