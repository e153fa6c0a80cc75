"""A study's forgotten images as rows of results: rates, excess, accuracies on them, their doubt.

What a population is held against is its dense parents (`exemplars` as published) and, where the
study has one, a second dense population of other seeds (`kind` "replica"), which is the null.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.classification import Floats
from rcm.analysis.exemplars import (
    LEAST,
    Votes,
    among,
    chosen,
    doubt_by_member,
    excess_by_member,
    held_out,
    label_counts,
    modal,
    overlap_by_member,
    rates_by_member,
    votes,
)
from rcm.analysis.metrics import CLEAN, Labels, MemberInfo, result_row
from rcm.analysis.statistics import BLOCK, ESTIMATE_COLUMNS, estimates, usable, wide

Members = Mapping[int, Labels]  # labels [N] by seed
PLACE = ("dataset", "model", "imbalance", "ratio", "shift", "severity")
MEANS = {  # metrics of members, and what tables call them
    "exemplar_rate": "rate",
    "exemplar_tied": "tied",
    "exemplar_excess": "excess",
    "exemplar_overlap": "overlap",
    "exemplar_parent_accuracy": "dense on them",
    "rest_parent_accuracy": "dense elsewhere",
    "exemplar_accuracy": "own on them",
    "rest_accuracy": "own elsewhere",
}


class Answers(NamedTuple):
    """What the members of one ratio, those that did not diverge, answer to the images of one cell:
    labels [N] by pipeline and seed; the true classes [N]; `place`, the values of `PLACE`; whether
    each class is "head", "medium" or "tail" [C], () if that is not known."""

    labels: Mapping[str, Members]
    truth: Labels
    classes: int
    place: tuple
    groups: Sequence[str] = ()


def independent(
    labels: Mapping[str, Members], replicas: Sequence[str], count: int
) -> tuple[str, list[int]] | None:
    """The first independent dense population that has `count` members, and their seeds."""
    for name in replicas:
        if len(labels.get(name, {})) >= count:
            return name, sorted(labels[name])[:count]
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

    `exemplar_rate` and, with a replica, `exemplar_excess`, spread over members; `exemplar_tied`,
    the share of images with a tie in either population, the same for all; on shifted images
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
        found["exemplar_tied"] = np.full(len(seeds), (parents.tied | own.tied).mean())
        again = None if name in replicas else independent(answers.labels, replicas, len(seeds))
        if again:
            found["exemplar_excess"] = excess_by_member(of(*again), parents, own)
        pair = ((dense, *seeds), (name, *seeds))
        if shift != CLEAN and set(pair) <= set(clean):
            at_home = chosen(among(clean[pair[0]], places), among(clean[pair[1]], places))
            found["exemplar_overlap"] = overlap_by_member(at_home, chosen(parents, own))
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


def exemplar_means(frame: pd.DataFrame, replicas: Sequence[str] = ()) -> pd.DataFrame:
    """Long estimates of the metrics of `MEANS` in percent, one row per shift, severity and
    pipeline; no rows in studies without populations. null: of the overlap the mean that dense
    members of other seeds, the first of `replicas` that is there, have in the same cell."""
    rows, place = usable(frame), ("shift", "severity")
    parts = {}
    for metric, name in MEANS.items():
        found = rows[rows["metric"] == metric]
        here = [wide(found, metric, shift, place) for shift in (CLEAN, None)]
        values = 100 * pd.concat(here)
        parts |= {(n, name, "", "percent"): values[n].dropna() for n in values.columns}
    if not parts:
        return pd.DataFrame(columns=pd.Index([*place, *ESTIMATE_COLUMNS, "null"]))
    table = estimates(parts)
    again = [name for name in replicas if name in set(table["pipeline"])][:1]
    null = table[table["pipeline"].isin(again) & (table["quantity"] == "overlap")]
    cell = [*place, *BLOCK, "ratio", "quantity"]
    return table.merge(null[[*cell, "mean"]].rename(columns={"mean": "null"}), "left", cell)


def indecision(shares: Floats) -> Floats:
    """float [N] in [0, 1]: the entropy of the shares [N, C] of people's answers to each image over
    the largest that C classes can have (Peterson et al. 2019, arXiv 1908.07086)."""
    logs = np.log(np.where(shares > 0, shares, 1))
    return -(shares * logs).sum(1) / np.log(shares.shape[1])


def disagreement(members: Members) -> np.ndarray:
    """The share of a population's members that do not give its modal label [N]: their doubt."""
    labels = np.stack([members[seed] for seed in sorted(members)])
    counts = label_counts(labels, int(labels.max()) + 1)
    return 1 - (labels == modal(counts)).mean(0)
