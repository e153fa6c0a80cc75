"""Fronts in the figures of accuracy against size: a line of steps, and marks as full as sure."""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from rcm.analysis.tradeoffs import DRAWS
from rcm.report.style import MUTED, seeds_in_words

LINE = {"color": MUTED, "linewidth": 0.9, "alpha": 0.8}


def with_front(points: pd.DataFrame, fronts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`points` (columns ratio, pipeline, objectives, panel) with what one block of the table
    `fronts` says of them, and the rows of it that do.

    Added are on_front, and fill: the share of resampled studies in which they are there, or, of a
    single seed, whether they are. In panels without a front nobody is on it, and fill is NaN.
    """
    keys = ["ratio", "pipeline", "objectives"]
    own = fronts[fronts["objectives"].isin(points["objectives"])]
    found = points.merge(own[[*keys, "on_front", "membership"]], how="left", on=keys)
    known = found["on_front"].notna()
    found["on_front"] = found["on_front"].eq(True)
    without = ~known.groupby(found["panel"]).transform("any")
    share = found["membership"].astype(float).fillna(found["on_front"].astype(float))
    return found.assign(fill=share.where(known, 0.0).mask(without)), own


def front_steps(points: pd.DataFrame) -> np.ndarray:
    """Corners [N, 2] of the line below which a pipeline is beaten by one on the front, no larger:
    from the smallest on, of points with the columns size, mean and on_front; none of one alone."""
    own = points[points["on_front"]].sort_values(["size", "mean"])[["size", "mean"]].to_numpy()
    if len(own) < 2:
        return np.empty((0, 2))
    before = np.column_stack([own[1:, 0], own[:-1, 1]])  # as good as the last, as large as the next
    return np.vstack([own[:1], np.stack([before, own[1:]], axis=1).reshape(-1, 2)])


def front_key(everywhere: bool) -> Line2D:
    """What a legend shows for the front; everywhere: every panel has one."""
    where = "front" if everywhere else "front, where marks are large"
    return Line2D([], [], label=f"{where}; the fuller a mark, the surer it is there", **LINE)


def front_words(fronts: pd.DataFrame, everywhere: bool) -> str:
    """How to read line and marks, for a caption; `fronts`: the rows that are drawn; everywhere:
    every panel has a front."""
    if not everywhere:
        return (
            f"{front_words(fronts, True)} Panels of small marks have no front: none was computed "
            "for them, and how full their marks are tells nothing."
        )
    text = "The line is the front: the pipelines on it are beaten by no other one in both, by means"
    if fronts["membership"].isna().all():
        return f"{text}; their marks are full (n = 1 seed, so nothing says how surely)."
    return (
        f"{text}. A mark is as full as it is often on the front of {DRAWS:,} studies whose seeds "
        f"are drawn again from this one's (bootstrap, {seeds_in_words(fronts)}; hollow: never). "
        "Few seeds make that too sure."
    )
