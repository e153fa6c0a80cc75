"""What populations of imported models forget: rows of the results table and the report's tables."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.forgotten import (
    Answers,
    disagreement,
    forgotten_rows,
    forgotten_tables,
    over_ratios,
)
from rcm.analysis.metrics import CLEAN
from rcm.analysis.statistics import PipelineInfo
from rcm.answers import Question, Setting, info_of, labels_by_cell
from rcm.imported import Key, Model


def forgotten_of(
    models: Sequence[Model], setting: Setting, pipelines: Sequence[PipelineInfo]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """(rows of every cell, the tables `forgotten.TABLES` of clean images) of the pipelines with
    members enough beside a dense one of the same seeds; empty without any. Dense models of other
    seeds (kind "replica") are the null."""
    dense = [pipeline.name for pipeline in pipelines if pipeline.kind == "dense"]
    replicas = [pipeline.name for pipeline in pipelines if pipeline.kind == "replica"]
    rows, parts = [], []
    for asked, labels in labels_by_cell(models, setting) if dense else ():
        for ratio in sorted(setting.training):
            answers = _answers(asked, labels, ratio, setting)
            others = [answers.labels[name] for name in replicas if name in answers.labels]
            doubts = {"replica": disagreement(others[0])} if others else {}
            who = {(m.pipeline.name, m.seed): info_of(m, setting) for m in models
                   if m.ratio == ratio}  # fmt: skip
            rows += forgotten_rows(answers, who, dense[0], replicas, doubts)
            if asked.shift == CLEAN:
                parts.append(forgotten_tables(answers, pipelines, replicas, doubts))
    return pd.DataFrame(rows), over_ratios(parts)


def _answers(
    asked: Question, labels: Mapping[Key, np.ndarray], ratio: int, setting: Setting
) -> Answers:
    by_pipeline: dict[str, dict[int, np.ndarray]] = {}
    for (pipeline, own, seed), label in labels.items():
        if own == ratio:
            by_pipeline.setdefault(pipeline, {})[seed] = label
    place = (setting.dataset, setting.model, setting.imbalance, float(ratio))
    return Answers(
        by_pipeline, asked.labels, setting.classes, (*place, asked.shift, asked.severity)
    )
