"""A tidy table with planted accuracies, for statistics and claims."""

from collections.abc import Callable

import pandas as pd
import pytest

from rcm.analysis.published import TABLES
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


@pytest.fixture(scope="session")
def published_table():
    """All rows of S3's paper, as they are typed in: dataset, model, type and the four numbers."""
    rows = [
        (dataset, network, name, *of_networks[place])
        for dataset, configurations in TABLES.items()
        for place, network in enumerate(("resnet50", "vgg19", "mobilenet_v2"))
        for name, *of_networks in configurations.values()
    ]
    numbers = ["clean_acc", "mCE", "rel_mCE", "compression_ratio"]
    return pd.DataFrame(rows, columns=["dataset", "model", "type", *numbers])
