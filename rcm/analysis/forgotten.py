"""A study's forgotten images: rows of results, and tables with nulls, overlaps and shares by class.

What a population is held against is its dense parents (`exemplars` as published) and, where the
study has one, a second dense population of other seeds (`kind` "replica"), which is the null.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from rcm.analysis.exemplars import (
    LEAST,
    Votes,
    against,
    among,
    doubt_by_member,
    excess_by_member,
    exemplars,
    farthest,
    held_out,
    jaccard,
    jaccard_by_chance,
    label_counts,
    modal,
    overlap_by_member,
    rates_by_member,
    split_null,
    swap_null,
    taxicab,
    tied,
    votes,
)
from rcm.analysis.metrics import CLEAN, Labels, MemberInfo, result_row
from rcm.analysis.statistics import ESTIMATE_COLUMNS, PipelineInfo, estimates, usable, wide

Members = Mapping[int, Labels]  # labels [N] by seed
PLACE = ("dataset", "model", "imbalance", "ratio", "shift", "severity")
TABLES = ("exemplars", "exemplar_overlap", "exemplar_classes", "exemplar_doubt")
MEANS = {  # metrics of members, and what tables call them
    "exemplar_rate": "rate",
    "exemplar_excess": "excess",
    "exemplar_overlap": "overlap",
    "exemplar_parent_accuracy": "dense on them",
    "rest_parent_accuracy": "dense elsewhere",
    "exemplar_accuracy": "own on them",
    "rest_accuracy": "own elsewhere",
}


class Answers(NamedTuple):
    """What the members of one ratio, those that did not diverge, answer to the images of one cell:
    labels [N] by pipeline and seed; the true classes [N]; `place`, the values of `PLACE`."""

    labels: Mapping[str, Members]
    truth: Labels
    classes: int
    place: tuple


def paired(*members: Members) -> list[np.ndarray]:
    """Populations [n, N] each, of the seeds that all of them have, in one order."""
    seeds = sorted(set.intersection(*map(set, members)))
    return [np.stack([one[s] for s in seeds]) if seeds else np.zeros((0, 0)) for one in members]


def replica_of(labels: Mapping[str, Members], replicas: Sequence[str], count: int):
    """The first `count` members [count, N] of an independent dense population; None without."""
    for name in replicas:
        if len(labels.get(name, {})) >= count:
            return np.stack([labels[name][s] for s in sorted(labels[name])[:count]])
    return None


Known = dict[tuple, Votes]  # by the name of a pipeline and the seeds of its members


def forgotten_rows(
    answers: Answers,
    infos: Mapping[tuple[str, int], MemberInfo],
    dense: str,
    replicas: Sequence[str],
    doubts: Mapping[str, np.ndarray],
    home: tuple[Known, Labels] | None = None,
) -> list[dict]:
    """Rows of every pipeline with at least `LEAST` members whose dense parents answered, too:

    `exemplar_rate` and, with a replica, `exemplar_excess`, spread over members; on shifted images
    `exemplar_overlap`, the Jaccard index of the exemplars with those among the same clean images,
    spread likewise; the accuracies of `held_out` as `exemplar_accuracy`,
    `exemplar_parent_accuracy`, `rest_accuracy` and `rest_parent_accuracy`; for every kind of doubt
    (in `cls`) `exemplar_doubt`, that of the exemplars minus that of the rest, spread over members.
    Fractions. infos: who they are, by pipeline and seed; doubts: as in `doubt_table`; home: votes
    on clean images, which a clean cell fills in, and the places of this cell's images among those,
    int [N].
    """
    rows: list[dict] = []
    shift, severity = answers.place[-2:]
    known: Known = {}  # the dense members' are the same for most pipelines
    clean, places = home or ({}, np.arange(0))

    def of(name: str, seeds: Sequence[int]) -> Votes:
        if (name, *seeds) not in known:
            labels = np.stack([answers.labels[name][seed] for seed in seeds])
            known[name, *seeds] = votes(labels, answers.classes)
        return known[name, *seeds]

    for name in (n for n in answers.labels if n != dense and dense in answers.labels):
        seeds = sorted(set(answers.labels[name]) & set(answers.labels[dense]))
        if len(seeds) < LEAST:
            continue
        parents, own = of(dense, seeds), of(name, seeds)
        found = {"exemplar_rate": rates_by_member(parents, own)}
        others = [one for one in replicas if len(answers.labels.get(one, {})) >= len(seeds)]
        if others and name not in replicas:
            again = of(others[0], sorted(answers.labels[others[0]])[: len(seeds)])
            found["exemplar_excess"] = excess_by_member(again, parents, own)
        pair = ((dense, *seeds), (name, *seeds))
        if shift != CLEAN and set(pair) <= set(clean):
            at_home = [among(clean[key], places) for key in pair]
            found["exemplar_overlap"] = overlap_by_member((at_home[0], at_home[1]), (parents, own))
        on = held_out(parents, own, answers.truth)
        found |= {"exemplar_accuracy": on.own, "exemplar_parent_accuracy": on.parent}
        found |= {"rest_accuracy": on.own_rest, "rest_parent_accuracy": on.parent_rest}
        by_metric = {(metric, ""): values for metric, values in found.items()}
        for kind, doubt in doubts.items():
            by_metric["exemplar_doubt", kind] = doubt_by_member(parents, own, doubt)
        rows += [
            result_row(infos[name, seed], shift, severity, metric, float(value), cls)
            for (metric, cls), values in by_metric.items()
            for seed, value in zip(seeds, values, strict=True)
            if not np.isnan(value)
        ]
    if shift == CLEAN:
        clean |= known
    return rows


def exemplar_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Long estimates of the metrics of `MEANS` in percent, one row per shift, severity and
    pipeline; no rows in studies without populations."""
    rows, place = usable(frame), ("shift", "severity")
    parts = {}
    for metric, name in MEANS.items():
        found = rows[rows["metric"] == metric]
        here = [wide(found, metric, shift, place) for shift in (CLEAN, None)]
        values = 100 * pd.concat(here)
        parts |= {(n, name, "", "percent"): values[n].dropna() for n in values.columns}
    if not parts:
        return pd.DataFrame(columns=pd.Index([*place, *ESTIMATE_COLUMNS]))
    return estimates(parts)


class Population(NamedTuple):
    """One pipeline beside its dense parents on one cell: paired labels [n, N] of both, whether its
    images are exemplars [N], and the distance of the label histograms [N]."""

    pipeline: PipelineInfo
    parents: np.ndarray
    own: np.ndarray
    chosen: np.ndarray
    distance: np.ndarray


def populations(answers: Answers, pipelines: Sequence[PipelineInfo]) -> list[Population]:
    """The pipelines with at least `LEAST` members, in their order, without the dense one."""
    dense = next(p.name for p in pipelines if p.kind == "dense")
    found = []
    for pipeline in pipelines:
        if pipeline.name == dense or not {dense, pipeline.name} <= set(answers.labels):
            continue
        parents, own = paired(answers.labels[dense], answers.labels[pipeline.name])
        if len(own) >= LEAST:
            pair = [label_counts(labels, answers.classes) for labels in (parents, own)]
            found.append(Population(pipeline, parents, own, exemplars(*pair), taxicab(*pair)))
    return found


def exemplar_table(
    answers: Answers, found: Sequence[Population], replicas: Sequence[str]
) -> pd.DataFrame:
    """One row per population: n, images, exemplars (their number), rate, tied (share of images with
    a tie in either population), null, null_upper and p; taxicab (mean distance) and taxicab_overlap
    (Jaccard index of the exemplars with the farthest 1 %). Rates are fractions.

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
        again = replica_of(answers.labels, replicas, len(one.own))
        splits = None if again is None else split_null(one.parents, again, answers.classes)
        if one.pipeline.name in replicas:
            row |= _beside(splits, row["rate"])
        else:
            row |= _beside(swap_null(one.parents, one.own, answers.classes), row["rate"])
            if again is not None:
                rate = float(exemplars(label_counts(again, answers.classes), pair[1]).mean())
                row |= _beside(splits, rate, "independent_") | {"independent_rate": rate}
        rows.append(row)
    return _placed(pd.DataFrame(rows), answers)


def _beside(rates, observed: float, prefix: str = "") -> dict[str, float]:
    null = against(rates, observed)
    named = {"null": null.mean, "null_upper": null.upper, "p": null.p}
    return {f"{prefix}{name}": value for name, value in named.items()}


def overlap_table(answers: Answers, found: Sequence[Population]) -> pd.DataFrame:
    """Jaccard index of the exemplars of every two populations, and what sets of these sizes would
    have by chance: pipeline, other, jaccard, by_chance. Exemplars share their dense population and
    its hard images, so the replica's row is the null that counts."""
    pairs = [
        {
            "pipeline": one.pipeline.name,
            "other": other.pipeline.name,
            "jaccard": jaccard(one.chosen, other.chosen),
            "by_chance": jaccard_by_chance(one.chosen, other.chosen),
        }
        for one in found
        for other in found
    ]
    return _placed(pd.DataFrame(pairs), answers)


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
        doubt_table(answers, found, doubts),
    ]


def over_ratios(parts: Sequence[list[pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables `TABLES` by name, those of all ratios under one another; none without any."""
    joined = [pd.concat(same, ignore_index=True) for same in zip(*parts, strict=True)]
    return dict(zip(TABLES, joined, strict=bool(parts)))


def disagreement(members: Members) -> np.ndarray:
    """The share of a population's members that do not give its modal label [N]: their doubt."""
    labels = np.stack([members[seed] for seed in sorted(members)])
    counts = label_counts(labels, int(labels.max()) + 1)
    return 1 - (labels == modal(counts)).mean(0)


def _placed(table: pd.DataFrame, answers: Answers) -> pd.DataFrame:
    place = dict(zip(PLACE, answers.place, strict=True))
    return table.assign(**place)[[*PLACE, *table.columns]] if len(table) else table
