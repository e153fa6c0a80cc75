"""Training images that were given a wrong label: are exemplars more among them (protocol S4, C6)?

A modal label needs no true one, so wrong labels of test images can have no effect. Those of
training images can: a dense network may know them by heart and a compressed one not. Dense
populations, too, differ more in what they half remember, so rates stand beside a replica's.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.exemplars import (
    LEAST,
    Flags,
    Votes,
    among,
    excess_by_member,
    rates_by_member,
    votes,
)
from rcm.analysis.forgotten import Answers
from rcm.analysis.metrics import TRAINING, Labels, MemberInfo, result_row
from rcm.analysis.statistics import ESTIMATE_COLUMNS, estimates, usable, wide

WRONG, RIGHT = "mislabelled", "well_labelled"  # images, as prefixes of metrics
KINDS = ("planted", "human")  # by what they are known to be
SHARES = {  # metrics of members and what the table calls them
    f"{WRONG}_exemplar_rate": "exemplars among wrong",
    f"{RIGHT}_exemplar_rate": "exemplars among right",
    f"{WRONG}_memorised": "wrong label learned",
    f"{WRONG}_accuracy": "true label, wrong",
    f"{RIGHT}_accuracy": "true label, right",
}
DIFFERENCES = {"rate": "difference", "excess": "difference of excess"}  # of two metrics
ORDER = (*list(SHARES.values())[:2], *DIFFERENCES.values(), *list(SHARES.values())[2:])


def mislabelled_rows(
    answers: Answers,
    infos: Mapping[tuple[str, int], MemberInfo],
    dense: str,
    replicas: Sequence[str],
    others: Mapping[str, Labels],
) -> list[dict]:
    """Rows about the training images in a cell, fractions, the kind of wrong label in `cls`.

    Of every member, of the images that another label names otherwise than the data set (`WRONG`)
    and of the rest (`RIGHT`): the share that it answers with the data set's label (`..._accuracy`)
    and, of the first, with the other one (`mislabelled_memorised`). Of every pipeline with at least
    `LEAST` members whose dense parents answered, too, spread over members, for both groups: the
    rate of exemplars (`..._exemplar_rate`) and, with a replica, `..._exemplar_excess`. Others: by
    kind, the other label of each image [N]; kinds that name all or none otherwise have no rows.
    infos: who the members are, by pipeline and seed.
    """
    rows: list[dict] = []
    for kind, other in others.items():
        wrong = other != answers.truth
        if wrong.all() or not wrong.any():
            continue
        found = _of_members(answers, other, wrong)
        for name in (n for n in answers.labels if n != dense and dense in answers.labels):
            found += _of_population(answers, name, dense, replicas, wrong)
        rows += [
            result_row(infos[name, seed], TRAINING, 0, metric, float(value), kind)
            for name, seed, metric, value in found
        ]
    return rows


def _of_members(answers: Answers, other: Labels, wrong: Flags) -> list[tuple]:
    found = []
    for name, members in answers.labels.items():
        for seed, own in members.items():
            right = own == answers.truth
            found += [
                (name, seed, f"{WRONG}_accuracy", right[wrong].mean()),
                (name, seed, f"{RIGHT}_accuracy", right[~wrong].mean()),
                (name, seed, f"{WRONG}_memorised", (own == other)[wrong].mean()),
            ]
    return found


def _of_population(
    answers: Answers, name: str, dense: str, replicas: Sequence[str], wrong: Flags
) -> list[tuple]:
    members = answers.labels
    seeds = sorted(set(members[name]) & set(members[dense]))
    if len(seeds) < LEAST:
        return []
    parents, own = _votes(answers, dense, seeds), _votes(answers, name, seeds)
    enough = [one for one in replicas if len(members.get(one, {})) >= len(seeds)]
    again = None
    if enough and name not in replicas:
        again = _votes(answers, enough[0], sorted(members[enough[0]])[: len(seeds)])
    found = []
    for group, images in ((WRONG, wrong), (RIGHT, ~wrong)):
        pair = among(parents, images), among(own, images)
        spread = {f"{group}_exemplar_rate": rates_by_member(*pair)}
        if again is not None:
            spread[f"{group}_exemplar_excess"] = excess_by_member(among(again, images), *pair)
        found += [
            (name, seed, metric, value)
            for metric, values in spread.items()
            for seed, value in zip(seeds, values, strict=True)
        ]
    return found


def _votes(answers: Answers, name: str, seeds: Sequence[int]) -> Votes:
    return votes(np.stack([answers.labels[name][seed] for seed in seeds]), answers.classes)


def mislabelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Long estimates about wrongly labelled training images in percent, a row per kind of wrong
    label (in `cls`), pipeline and quantity of `ORDER`: those of `SHARES`; `difference`, the first
    minus the second of them; `difference of excess`, the same of what exceeds the dense parents'
    own rate against dense members of other seeds. No rows in studies without such images."""
    rows = usable(frame)
    rows = rows[rows["shift"] == TRAINING]

    def of(metric: str) -> pd.DataFrame:
        return 100 * wide(rows, metric, TRAINING, ("cls",))

    found = {name: of(metric) for metric, name in SHARES.items()}
    for what, name in DIFFERENCES.items():
        found[name] = of(f"{WRONG}_exemplar_{what}") - of(f"{RIGHT}_exemplar_{what}")
    parts = {
        (pipeline, name, "", "percent"): found[name][pipeline].dropna()
        for name in ORDER
        for pipeline in found[name].columns
    }
    if not parts:
        return pd.DataFrame(columns=pd.Index(["cls", *ESTIMATE_COLUMNS]))
    return estimates(parts)
