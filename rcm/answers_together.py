"""What imported models answer beside each other: agreement with parents, and forgotten images."""

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np
import pandas as pd

from rcm.analysis.forgotten import Answers, Members, disagreement, forgotten_rows
from rcm.analysis.forgotten_shifts import middle, shift_overlaps
from rcm.analysis.forgotten_tables import chosen_by, forgotten_tables, over_ratios, populations
from rcm.analysis.images import image_table
from rcm.analysis.measured import of_dense
from rcm.analysis.metrics import CLEAN, MemberInfo, agreement_rows
from rcm.analysis.statistics import PipelineInfo
from rcm.answers import ATTACK, NATURAL, Question, Setting, info_of, labels_by_cell
from rcm.answers_alone import confidence_in
from rcm.imported import Key, Model
from rcm.pictures import pictures
from rcm.report.gallery import Picture

Infos = Mapping[Key, MemberInfo]
Labels = Mapping[Key, np.ndarray]


class Together(NamedTuple):
    """Rows of every cell; the tables image_intervals and `TABLES` of clean images, and those of
    `shift_overlaps` of corrupted ones; pictures of forgotten images at the largest ratio, by the
    label of a pipeline."""

    rows: list[dict]
    tables: dict[str, pd.DataFrame]
    pictures: dict[str, list[Picture]]


def together(
    models: Sequence[Model], setting: Setting, pipelines: Sequence[PipelineInfo]
) -> Together:
    """What all models answer beside each other.

    Images are forgotten by pipelines with members enough beside dense ones of the same seeds, of
    which they are made; dense models of other seeds (kind "replica") are the null. Without dense
    ones nothing is forgotten.
    """
    infos = {model.key: info_of(model, setting) for model in models}
    dense = [pipeline.name for pipeline in pipelines if pipeline.kind == "dense"]
    replicas = [pipeline.name for pipeline in pipelines if pipeline.kind == "replica"]
    known = {pipeline.name for pipeline in of_dense(pipelines)} | {*replicas}
    rows, parts, intervals = [], [], []
    votes = {ratio: {} for ratio in setting.training}
    chosen, same, shown = {}, _same_images(setting), {}
    all_clean = np.array_equal(setting.questions[CLEAN].ids, np.arange(setting.images))
    for asked, labels in labels_by_cell(models, setting):
        if asked.kind == ATTACK:  # each model was shown images of its own
            continue
        rows += _agreements(asked, labels, models, infos)
        for ratio in sorted(setting.training) if asked.kind == NATURAL else ():
            answers = _answers(asked, labels, ratio, setting)
            if asked.shift == CLEAN:
                intervals.append(image_table(answers, pipelines))
            if not dense:
                continue
            answers = answers._replace(labels=_named(answers.labels, known))
            others = [answers.labels[name] for name in replicas if name in answers.labels]
            doubts = {"replica": disagreement(others[0])} if others else {}
            if setting.human is not None:
                doubts["human"] = setting.human[asked.ids]
            who = {(name, seed): info for (name, own, seed), info in infos.items() if own == ratio}
            home = (votes[ratio], asked.ids) if all_clean else None
            rows += forgotten_rows(answers, who, dense[0], replicas, doubts, home)
            if (asked.shift, asked.severity) in same:
                chosen[answers.place] = chosen_by(answers, pipelines)
            if asked.shift == CLEAN:
                parts.append(forgotten_tables(answers, pipelines, replicas, doubts))
                shown = _pictures(answers, pipelines, dense[0], models, setting, asked)
    tables = shift_overlaps(chosen, replicas)
    tables |= {"image_intervals": pd.concat(intervals, ignore_index=True)} if intervals else {}
    return Together(rows, tables | over_ratios(parts), shown)


def _pictures(
    answers: Answers,
    pipelines: Sequence[PipelineInfo],
    dense: str,
    models: Sequence[Model],
    setting: Setting,
    asked: Question,
) -> dict[str, list[Picture]]:
    """Of clean test images, where the labels' file holds them and there are populations."""
    shown = setting.shown
    found = [] if shown is None else populations(answers, pipelines)
    if shown is None or not found:
        return {}
    own = [model for model in models if model.ratio == answers.place[3] and CLEAN in model.cells]
    sure = {(m.pipeline.name, m.seed): confidence_in(m, setting, asked) for m in own}
    names = setting.names or tuple(map(str, range(setting.classes)))
    return pictures(answers, found, dense, lambda place: shown[asked.ids[place]], names, sure)


def _named(labels: Mapping[str, Members], names: Set[str]) -> dict[str, Members]:
    return {name: members for name, members in labels.items() if name in names}


def _same_images(setting: Setting) -> set[tuple[str, float]]:
    """The corruptions at the middle severity whose images are those of the first of them."""
    asked = [q for q in setting.questions.values() if q.kind == NATURAL and q.shift != CLEAN]
    at = [q for q in asked if q.severity == middle([q.severity for q in asked])]
    return {(q.shift, q.severity) for q in at if np.array_equal(q.ids, at[0].ids)}


def _agreements(
    asked: Question, labels: Labels, models: Sequence[Model], infos: Infos
) -> list[dict]:
    rows = []
    for model in models:
        parent = (model.pipeline.parent, *model.key[1:])
        if {model.key, parent} <= set(labels):
            compared = (asked.labels, labels[model.key], labels[parent])
            both = (infos[model.key], infos[parent])
            rows += agreement_rows(*both, asked.shift, asked.severity, *compared)
    return rows


def _answers(asked: Question, labels: Labels, ratio: int, setting: Setting) -> Answers:
    by_pipeline: dict[str, dict[int, np.ndarray]] = {}
    for (pipeline, own, seed), label in labels.items():
        if own == ratio:
            by_pipeline.setdefault(pipeline, {})[seed] = label
    place = (setting.dataset, setting.model, setting.imbalance, float(ratio))
    place = (*place, asked.shift, asked.severity)
    training = setting.training[ratio]
    groups = training.groups if training.counts else ()
    return Answers(by_pipeline, asked.labels, setting.classes, place, groups)
