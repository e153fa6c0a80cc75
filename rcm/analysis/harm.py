"""Which classes does compression harm? Welch's test on normalised recall, corrected and not.

Source: Hooker et al. 2019 (arXiv 1911.05248) and its released code: the recall of a class minus the
mean accuracy of the population, compressed against dense, is tested class by class at p <= 0.05
without correction. Beside that published count stand the one after Benjamini & Hochberg (1995), the
number expected by chance, and a paired test of each member's recall minus its own accuracy, which
is better calibrated, because a member's luck moves all its classes together.
"""

from collections.abc import Sequence

import pandas as pd

from rcm.analysis.significance import benjamini_hochberg, welch
from rcm.analysis.statistics import (
    BLOCK,
    MEMBER,
    PipelineInfo,
    difference,
    paired_t,
    usable,
    wide,
)

ALPHA = 0.05


def normalised_changes(
    frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]
) -> dict[str, pd.DataFrame]:
    """By pipeline the change of each class's recall against the parent beyond the change of
    accuracy, points: a row per block, ratio and seed that have both, a column per class; empty
    without either."""
    rows = usable(frame)
    recall, accuracy = wide(rows, "recall", by=("cls",)), wide(rows, "accuracy")
    return {
        p.name: _normalised(recall, accuracy, (p.name, p.parent)) for p in pipelines if p.parent
    }


def _normalised(
    recall: pd.DataFrame, accuracy: pd.DataFrame, pair: tuple[str, str]
) -> pd.DataFrame:
    if not set(pair) <= set(recall.columns):
        return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(MEMBER), names=MEMBER))
    change = pd.DataFrame(difference(recall, *pair).unstack("cls"))
    return 100 * change.sub(difference(accuracy, *pair), axis=0).dropna()


def class_harm(frame: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """One row per block, ratio, pipeline with a parent and class: effect (change of recall beyond
    the change of accuracy, points), n, p (Welch), p_bh, p_paired and p_paired_bh, corrected over
    the classes of a pipeline. Clean test images; NaN where fewer than two members, or no spread,
    allow no test."""
    rows = usable(frame)
    recall, accuracy = wide(rows, "recall", by=("cls",)), wide(rows, "accuracy")
    found = []
    if recall.empty:
        return pd.DataFrame(columns=pd.Index(_COLUMNS))
    for key, part in recall.groupby(level=[*BLOCK, "ratio"], sort=False):
        tops = pd.DataFrame(accuracy.xs(key, level=[*BLOCK, "ratio"]))
        for pipeline in pipelines:
            if pipeline.parent and {pipeline.name, pipeline.parent} <= set(part.columns):
                made = _of_pipeline(part.droplevel([*BLOCK, "ratio"]), tops, pipeline)
                found += [(*key, pipeline.name, *row) for row in made]
    return pd.DataFrame(found, columns=pd.Index(_COLUMNS))


_COLUMNS = [*BLOCK, "ratio", "pipeline", "cls", "effect", "n", "p", "p_bh", "p_paired",
            "p_paired_bh"]  # fmt: skip


def _of_pipeline(recall: pd.DataFrame, accuracy: pd.DataFrame, pipeline: PipelineInfo) -> list:
    """(cls, effect, n, p, p_bh, p_paired, p_paired_bh) of each class; rows of `recall` are (seed,
    class), rows of `accuracy` seeds."""
    pair = [pipeline.parent, pipeline.name]
    tops = accuracy[pair].dropna()
    by_class = pd.DataFrame(recall[pair].unstack("cls")).loc[tops.index].dropna(axis=1)
    if tops.empty or by_class.empty:
        return []
    dense, own = (100 * by_class[name] for name in pair)
    tops = 100 * tops
    published = [part - tops[name].mean() for part, name in zip((dense, own), pair, strict=True)]
    change = own.sub(tops[pair[1]], axis=0) - dense.sub(tops[pair[0]], axis=0)
    unpaired = [welch(published[0][c], published[1][c]) for c in dense.columns]
    paired = [paired_t(change[c]) for c in dense.columns]
    columns = (unpaired, benjamini_hochberg(unpaired), paired, benjamini_hochberg(paired))
    return [
        (str(c), float(change[c].mean()), len(tops), *(float(column[i]) for column in columns))
        for i, c in enumerate(dense.columns)
    ]


def harm_counts(harm: pd.DataFrame) -> pd.DataFrame:
    """How many classes each pipeline changes beyond its change of accuracy: block, ratio, pipeline,
    n, classes (that have a p of Welch's test), untested (those without), impacted (published
    count), by_chance (expected if nothing does), impacted_bh, impacted_paired_bh, worst (effect of
    the most harmed class) and worst_class."""
    rows = []
    for key, part in harm.groupby([*BLOCK, "ratio", "pipeline"], sort=False):
        worst = part.sort_values("effect").iloc[0]
        counts = ((part[name] <= ALPHA).sum() for name in ("p", "p_bh", "p_paired_bh"))
        impacted, bh, paired = (int(count) for count in counts)
        classes = int(part["p"].notna().sum())
        rows.append((*key, int(worst["n"]), classes, len(part) - classes, impacted, ALPHA * classes,
                     bh, paired, float(worst["effect"]), str(worst["cls"])))  # fmt: skip
    names = [
        "n",
        "classes",
        "untested",
        "impacted",
        "by_chance",
        "impacted_bh",
        "impacted_paired_bh",
    ]
    columns = [*BLOCK, "ratio", "pipeline", *names, "worst", "worst_class"]
    return pd.DataFrame(rows, columns=pd.Index(columns))
