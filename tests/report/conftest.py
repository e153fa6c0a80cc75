"""A synthetic study with every pipeline, three ratios and six corruptions, and its description."""

import fcntl
import pickle

import pandas as pd
import pytest
from study_table import STUDY, study_rows

from rcm.analysis.claims import decide
from rcm.analysis.claims_imbalance import IMBALANCE_CLAIMS
from rcm.analysis.statistics import PipelineInfo
from rcm.report.page import Report, RunInfo, write_report


@pytest.fixture(scope="session")
def pipelines() -> list[PipelineInfo]:
    return [PipelineInfo(name, *parts[:4]) for name, parts in STUDY.items()]


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return pd.DataFrame(study_rows(seeds=3, ratios=(1.0, 10.0, 100.0), noise=0.012))


@pytest.fixture(scope="session")
def run() -> RunInfo:
    return RunInfo(
        title="Class imbalance on CIFAR-10",
        summary="Which compression techniques make a small ResNet lose more on a long tail?",
        command="python launch.py --config=experiments/class_imbalance.py:laptop --config.seeds=3",
        config={"seeds": 3, "data": {"name": "cifar10", "ratios": (1, 10, 100)}},
        versions={"jax": "0.10.2", "flax": "0.12.8"},
        hardware="2 CPU cores, no accelerator",
        seconds=6443.0,
        notes=["Selection used the validation split only."],
        diverged=["cifar10, resnet8, exp 100, int4, seed 7"],
        invariants=[
            ("int8", "weights on symmetric grids of 8 bits", 9),
            ("prune | 50", "zeros", 8),
        ],
        preview="Laptop scale: ResNet-8 and three seeds; no claim about the paper's scale.",
    )


@pytest.fixture(scope="session")
def report(frame, pipelines, run, shared_by_workers) -> Report:
    """Made once for all workers: it takes twenty seconds."""
    path = shared_by_workers / "report.pickle"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            verdicts = decide(IMBALANCE_CLAIMS, frame, pipelines)
            path.write_bytes(pickle.dumps(write_report(frame, pipelines, run, verdicts)))
    return pickle.loads(path.read_bytes())
