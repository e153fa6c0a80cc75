"""A tidy table with planted accuracies, for statistics and claims."""

from collections.abc import Callable

import pandas as pd
import pytest

from rcm.analysis.statistics import PipelineInfo

Value = Callable[[str, float, int, str], float | None]


def tidy(value: Value, pipelines, ratios, seeds, metrics=("accuracy",)) -> pd.DataFrame:
    """Rows of clean metrics: value(pipeline, ratio, seed, metric), None for a missing member."""
    rows = [
        {
            "dataset": "digits", "model": "tiny", "imbalance": "exp", "ratio": float(ratio),
            "seed": seed, "pipeline": pipeline, "shift": "clean", "severity": 0.0,
            "metric": metric, "cls": "", "value": value(pipeline, ratio, seed, metric),
            "status": "ok",
        }
        for pipeline in pipelines
        for ratio in ratios
        for seed in range(seeds)
        for metric in metrics
    ]  # fmt: skip
    return pd.DataFrame([row for row in rows if row["value"] is not None])


@pytest.fixture
def make_frame() -> Callable[..., pd.DataFrame]:
    return tidy


@pytest.fixture
def four_pipelines() -> list[PipelineInfo]:
    return [
        PipelineInfo("dense", "dense", "dense"),
        PipelineInfo("finetune", "fine-tuned", "control", "dense", "dense"),
        PipelineInfo("prune", "prune 90 %", "trained", "finetune", "dense"),
        PipelineInfo("int8", "int8", "post_training", "dense", "dense"),
    ]
