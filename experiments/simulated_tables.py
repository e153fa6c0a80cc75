"""Simulated studies of protocols S1 and S3: results tables drawn without any network.

Members share the luck of their seed, compressed ones have luck of their own, and nothing else tells
them apart unless it is planted.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from rcm.analysis.statistics import BLOCK, PipelineInfo

RATIOS = (1.0, 10.0, 100.0)
SHIFTS, SEVERITIES = ("fog", "gaussian_noise"), (1.0, 5.0)

# name: kind, baseline, techniques, bits, points of clean accuracy below the dense network
PIPELINES: dict[str, tuple[str, str, tuple[str, ...], float, float]] = {
    "dense": ("dense", "", (), 0, 0),
    "finetune": ("control", "dense", (), 0, 0),
    "narrow": ("control", "dense", (), 0, 4),
    "narrower": ("control", "dense", (), 0, 8),
    "narrowest": ("control", "dense", (), 0, 12),
    "alone": ("control", "dense", (), 0, 0),
    "student": ("student", "alone", (), 0, 0),
    "filters": ("trained", "finetune", ("prune_filters",), 0, 0),
    "prune": ("trained", "finetune", ("prune",), 0, 0),
    "cluster": ("trained", "finetune", ("cluster",), 0, 0),
    "prune_cluster": ("trained", "finetune", ("prune", "cluster"), 0, 0),
    "int8": ("post_training", "dense", ("quantize",), 8, 0),
    "cluster_int8": ("trained", "finetune", ("cluster", "quantize"), 8, 0),
    "prune_cluster_int8": ("trained", "finetune", ("prune", "cluster", "quantize"), 8, 0),
    "qat8": ("trained", "finetune", ("qat",), 8, 0),
    "qat4": ("trained", "finetune", ("qat",), 4, 0),
    "qat_int8": ("trained", "finetune", ("qat", "quantize"), 8, 0),
    "cqat": ("trained", "finetune", ("cluster", "qat"), 8, 0),
    "cqat_int8": ("trained", "finetune", ("cluster", "qat", "quantize"), 8, 0),
    "pcqat": ("trained", "finetune", ("prune", "cluster", "qat"), 8, 0),
    "pcqat_int8": ("trained", "finetune", ("prune", "cluster", "qat", "quantize"), 8, 0),
    "finetune_loss": ("control", "dense", (), 0, 5),
    "prune_loss": ("trained", "finetune_loss", ("prune",), 0, 5),
    "prune_after": ("trained", "finetune_loss", ("prune", "adjust"), 0, 5),
}
REPAIRS = {"finetune_loss": "loss", "prune_loss": "loss", "prune_after": "adjust"}
INFOS = [
    PipelineInfo(
        name, name, kind, baseline, "dense" if baseline else "", techniques, bits,
        repair=REPAIRS.get(name, ""),
    )
    for name, (kind, baseline, techniques, bits, _) in PIPELINES.items()
]  # fmt: skip


class Planted(NamedTuple):
    """What compression really does: points of accuracy lost per tenfold imbalance (more than the
    parent), and points gained on corrupted images at the same clean accuracy."""

    harm: float = 0.0
    robustness: float = 0.0


NOTHING = Planted()


def study(rng: np.random.Generator, seeds: int, planted: Planted = NOTHING) -> pd.DataFrame:
    """A results table of `PIPELINES` at three ratios, clean and under two corruptions.

    In points of accuracy: a seed's members share luck of standard deviation 0.8 at each ratio; a
    trained pipeline adds 0.5 of its own, one that is only quantized 0.1; corrupted accuracy is on a
    line in logits plus luck of 0.5 that a seed's members share under a corruption and 0.3 of its
    own; recall of rare classes adds 1.5, of frequent ones 0.5. All networks are equally large. What
    a repair costs in accuracy, `PIPELINES` says; it changes nothing for rare classes.
    """
    shape = (seeds, len(RATIOS), len(PIPELINES))
    decades = np.log10(RATIOS)[:, None]
    own = np.array(
        [0.0 if name == "dense" else 0.1 if name == "int8" else 0.5 for name in PIPELINES]
    )
    compressed = np.array([kind not in ("dense", "control") for kind, *_ in PIPELINES.values()])
    below = np.array([lower for *_, lower in PIPELINES.values()])
    accuracy = 90 - below - (10 + planted.harm * compressed) * decades
    accuracy = accuracy + rng.normal(0, 0.8, (*shape[:2], 1)) + own * rng.normal(size=shape)
    cells = {("clean", 0.0, "accuracy"): accuracy}
    cells["clean", 0.0, "compression_ratio"] = np.full(shape, 100.0)
    cells["clean", 0.0, "recall_head"] = accuracy + rng.normal(0, 0.5, shape)
    costs = np.array([below[i] if name in REPAIRS else 0.0 for i, name in enumerate(PIPELINES)])
    cells["clean", 0.0, "recall_tail"] = accuracy + costs + rng.normal(0, 1.5, shape)
    cells["clean", 0.0, "balanced_accuracy"] = accuracy + costs
    for shift in SHIFTS:
        for severity in SEVERITIES:
            mean = 100 * expit(-0.4 - 0.2 * severity + 0.8 * logit(accuracy / 100))
            luck = rng.normal(0, 0.5, (*shape[:2], 1)) + 0.6 * own * rng.normal(size=shape)
            cells[shift, severity, "accuracy"] = mean + luck + planted.robustness * compressed
    return _tidy(cells, seeds)


def _tidy(cells: Mapping[tuple[str, float, str], np.ndarray], seeds: int) -> pd.DataFrame:
    """A results table of percentages [seeds, ratios, pipelines] by shift, severity and metric."""
    members = pd.MultiIndex.from_product(
        [range(seeds), RATIOS, PIPELINES], names=["seed", "ratio", "pipeline"]
    ).to_frame(index=False)
    tables = [
        members.assign(shift=shift, severity=severity, metric=metric, value=values.ravel() / 100)
        for (shift, severity, metric), values in cells.items()
    ]
    block = dict(zip(BLOCK, ("simulated", "network", "exp"), strict=True))
    return pd.concat(tables, ignore_index=True).assign(**block, cls="", status="ok")
