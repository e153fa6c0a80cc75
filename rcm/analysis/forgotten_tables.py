"""A study's forgotten images as tables: their nulls, overlaps, shares by class, and their doubt."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from rcm.analysis.classification import GROUPS
from rcm.analysis.exemplar_nulls import Chance, against, split_null, swap_null
from rcm.analysis.exemplars import (
    LEAST,
    Chosen,
    chosen,
    exemplars,
    farthest,
    jaccard,
    jaccard_by_chance,
    label_counts,
    overlap_by_member,
    taxicab,
    tied,
    votes,
)
from rcm.analysis.forgotten import PLACE, Answers, Members, independent
from rcm.analysis.statistics import PipelineInfo, summarise

TABLES = (
    "exemplars", "exemplar_overlap", "exemplar_classes", "exemplar_groups", "exemplar_doubt",
)  # fmt: skip


def paired(*members: Members) -> list[np.ndarray]:
    """Populations [n, N] each, of the seeds that all of them have, in one order."""
    seeds = sorted(set.intersection(*map(set, members)))
    return [np.stack([one[s] for s in seeds]) if seeds else np.zeros((0, 0)) for one in members]


class Population(NamedTuple):
    """One pipeline beside its dense parents on one cell: paired labels [n, N] of both, whether its
    images are exemplars [N], and the distance of the label histograms [N]."""

    pipeline: PipelineInfo
    parents: np.ndarray
    own: np.ndarray
    chosen: np.ndarray
    distance: np.ndarray


def _paired_with_dense(
    answers: Answers, pipelines: Sequence[PipelineInfo]
) -> Iterator[tuple[PipelineInfo, list[int], np.ndarray, np.ndarray]]:
    """The pipelines with at least `LEAST` members, in their order, without the dense one; the
    seeds of those that their parents have, too; and labels [n, N] of both."""
    dense = next(p.name for p in pipelines if p.kind == "dense")
    for pipeline in pipelines:
        if pipeline.parent != dense or not {dense, pipeline.name} <= set(answers.labels):
            continue
        members = (answers.labels[dense], answers.labels[pipeline.name])
        parents, own = paired(*members)
        if len(own) >= LEAST:
            yield pipeline, sorted(set(members[0]) & set(members[1])), parents, own


def populations(answers: Answers, pipelines: Sequence[PipelineInfo]) -> list[Population]:
    """Every pipeline beside its dense parents."""
    found = []
    for pipeline, _, parents, own in _paired_with_dense(answers, pipelines):
        pair = [label_counts(labels, answers.classes) for labels in (parents, own)]
        found.append(Population(pipeline, parents, own, exemplars(*pair), taxicab(*pair)))
    return found


def chosen_by(answers: Answers, pipelines: Sequence[PipelineInfo]) -> dict[str, Chosen]:
    """The exemplars of every pipeline, by its name."""
    found, known = {}, {}  # the parents are the same for most pipelines
    for pipeline, seeds, parents, own in _paired_with_dense(answers, pipelines):
        key = tuple(seeds)
        if key not in known:
            known[key] = votes(parents, answers.classes)
        found[pipeline.name] = chosen(known[key], votes(own, answers.classes), seeds)
    return found


def exemplar_table(
    answers: Answers, found: Sequence[Population], replicas: Sequence[str]
) -> pd.DataFrame:
    """One row per population: n, images, exemplars (their number), rate, tied (share of images with
    a tie in either population), null, null_upper, p and least_p (`exemplar_nulls.Null`);
    taxicab (mean distance) and taxicab_overlap (Jaccard index of the exemplars with the farthest
    1 %). Rates are fractions.

    The null swaps members with their parents; that of a replica, which is unpaired, splits both at
    random. Where there is a replica, the same stands against its members, which no pipeline came
    from (`independent_...`), with the splits of the dense ones and the replica for a null.
    """
    rows = []
    for one in found:
        pair = [label_counts(labels, answers.classes) for labels in (one.parents, one.own)]
        row = {
            "pipeline": one.pipeline.name, "n": len(one.own), "images": one.chosen.size,
            "exemplars": int(one.chosen.sum()), "rate": float(one.chosen.mean()),
            "tied": float(np.mean(tied(pair[0]) | tied(pair[1]))),
            "taxicab": float(one.distance.mean()),
            "taxicab_overlap": jaccard(one.chosen, farthest(one.distance)),
        }  # fmt: skip
        again = _independent(answers, replicas, len(one.own))
        if again is None or one.pipeline.name not in replicas:
            row |= _beside(swap_null(one.parents, one.own, answers.classes), row["rate"])
        if again is not None:
            splits = split_null(one.parents, again, answers.classes)
            if one.pipeline.name in replicas:
                row |= _beside(splits, row["rate"])
            else:
                rate = float(exemplars(label_counts(again, answers.classes), pair[1]).mean())
                row |= _beside(splits, rate, "independent_") | {"independent_rate": rate}
        rows.append(row)
    return _placed(pd.DataFrame(rows), answers)


def _independent(answers: Answers, replicas: Sequence[str], count: int) -> np.ndarray | None:
    """Labels [count, N] of an independent dense population; None without one."""
    found = independent(answers.labels, replicas, count)
    return found and np.stack([answers.labels[found[0]][seed] for seed in found[1]])


def _beside(chance: Chance, observed: float, prefix: str = "") -> dict[str, float]:
    null = against(chance, observed)
    named = {"null": null.mean, "null_upper": null.upper, "p": null.p, "least_p": null.least}
    return {f"{prefix}{name}": value for name, value in named.items()}


def overlap_table(answers: Answers, found: Sequence[Population]) -> pd.DataFrame:
    """Jaccard index of the exemplars of every two populations, its 95 % interval over draws of
    members (lo, hi; NaN where the two are not of as many), and what sets of these sizes would
    have by chance: pipeline, other, jaccard, lo, hi, by_chance. Exemplars share their dense
    population and its hard images, so the replica's row is the null that counts."""
    classes = answers.classes
    counted = [chosen(votes(one.parents, classes), votes(one.own, classes)) for one in found]
    rows = []
    for (one, own), (other, others) in itertools.product(
        zip(found, counted, strict=True), repeat=2
    ):
        alike = len(one.own) == len(other.own)
        spread = summarise(overlap_by_member(own, others)) if alike else None
        rows.append(
            {
                "pipeline": one.pipeline.name,
                "other": other.pipeline.name,
                "jaccard": jaccard(one.chosen, other.chosen),
                "lo": spread.lo if spread else np.nan,
                "hi": spread.hi if spread else np.nan,
                "by_chance": jaccard_by_chance(one.chosen, other.chosen),
            }
        )
    return _placed(pd.DataFrame(rows), answers)


def class_table(answers: Answers, found: Sequence[Population]) -> pd.DataFrame:
    """Exemplars by true class: pipeline, cls, exemplars (their number), rate (of the class's
    images) and share (of all exemplars of the pipeline)."""
    images = np.bincount(answers.truth, minlength=answers.classes)
    rows = []
    for one in found:
        counts = np.bincount(answers.truth[one.chosen], minlength=answers.classes)
        rows += [
            {
                "pipeline": one.pipeline.name, "cls": str(c), "exemplars": int(counts[c]),
                "rate": counts[c] / images[c], "share": counts[c] / max(counts.sum(), 1),
            }
            for c in range(answers.classes)
            if images[c]
        ]  # fmt: skip
    return _placed(pd.DataFrame(rows), answers)


def group_table(answers: Answers, found: Sequence[Population]) -> pd.DataFrame:
    """Exemplars by the frequency of their true class in training: pipeline, group, exemplars (their
    number), rate (of the group's images), share (of all exemplars of the pipeline) and images (the
    group's share of all); no rows where the groups are not known."""
    group_of = np.asarray(answers.groups)[answers.truth] if len(answers.groups) else np.array([])
    rows = []
    for one in found:
        for group in (g for g in GROUPS if (group_of == g).any()):
            own = group_of == group
            count = int(one.chosen[own].sum())
            rows.append(
                {
                    "pipeline": one.pipeline.name, "group": group, "exemplars": count,
                    "rate": count / own.sum(), "share": count / max(one.chosen.sum(), 1),
                    "images": own.mean(),
                }
            )  # fmt: skip
    return _placed(pd.DataFrame(rows), answers)


def doubt_table(
    answers: Answers, found: Sequence[Population], doubts: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Are exemplars the images that others doubt? One row per population and kind of doubt: mean
    doubt of exemplars and of the rest, `above`, the chance that an exemplar is doubted more than
    another image (0.5: no relation), and the p of Mann and Whitney's test of it.

    doubts: by name, a number per image [N], the larger the more doubtful; that named "replica"
    comes from the members of such a population and does not judge it.
    """
    rows = []
    for one in found:
        for name, doubt in doubts.items():
            if name == one.pipeline.kind:  # whose own doubts make its exemplars
                continue
            chosen, rest = doubt[one.chosen], doubt[~one.chosen]
            if not (chosen.size and rest.size):
                continue
            test = stats.mannwhitneyu(chosen, rest)
            above = float(test.statistic) / (chosen.size * rest.size)
            row = {"pipeline": one.pipeline.name, "doubt": name, "exemplars": chosen.mean()}
            rows.append(row | {"rest": rest.mean(), "above": above, "p": float(test.pvalue)})
    return _placed(pd.DataFrame(rows), answers)


def forgotten_tables(
    answers: Answers,
    pipelines: Sequence[PipelineInfo],
    replicas: Sequence[str],
    doubts: Mapping[str, np.ndarray],
) -> list[pd.DataFrame]:
    """The tables `TABLES` of the populations of one cell."""
    found = populations(answers, pipelines)
    return [
        exemplar_table(answers, found, replicas),
        overlap_table(answers, found),
        class_table(answers, found),
        group_table(answers, found),
        doubt_table(answers, found, doubts),
    ]


def over_ratios(parts: Sequence[list[pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables `TABLES` by name, those of all ratios under one another; none without any."""
    joined = [pd.concat(same, ignore_index=True) for same in zip(*parts, strict=True)]
    return dict(zip(TABLES, joined, strict=bool(parts)))


def _placed(table: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    place = dict(zip(PLACE, answers.place, strict=True))
    return table.assign(**place)[[*PLACE, *table.columns]] if len(table) else table
