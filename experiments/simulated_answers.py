"""Simulated studies of protocol S4: what populations of equals answer, image by image.

A member's answer to an image is the largest of the image's own evidence for each class plus the
member's accidents, which are those of no other member, but partly its parent's. Compression changes
nothing but these accidents, so every difference between populations is chance.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from rcm.analysis.classification import confusion_matrix, group_recalls, recall
from rcm.analysis.forgotten import Answers, disagreement, forgotten_rows
from rcm.analysis.metrics import MemberInfo, result_row
from rcm.analysis.statistics import PipelineInfo
from rcm.analysis.subgroups import subgroup_rows, training_counts, training_rows

CLASSES, IMAGES = 10, 2000
RATIOS = {1.0: (500,) * 10, 100.0: (500, 300, 180, 108, 65, 39, 23, 14, 8, 5)}
GROUPS = ("head",) * 3 + ("medium",) * 4 + ("tail",) * 3
CELLS = (("clean", 0.0), ("fog", 3.0), ("gaussian_noise", 3.0))
HARDER = 1.0  # what corruption takes from the true class's evidence
SUBGROUPS = ("common", "rare")
SPARSITIES = (0.3, 0.5, 0.7, 0.9)


def _pruned(sparsity: float) -> PipelineInfo:
    name = f"prune{100 * sparsity:.0f}"
    return PipelineInfo(name, name, "trained", "dense", "dense", ("prune",), sparsity=sparsity)


INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("dense_again", "dense_again", "replica", "", "dense"),
    *map(_pruned, SPARSITIES),
    PipelineInfo("int8", "int8", "post_training", "dense", "dense", ("quantize",), 8),
]


class Kinship(NamedTuple):
    """Correlation of the accidents of pruned and of quantized members with their parents'."""

    pruned: float
    quantized: float


INDEPENDENT = Kinship(0.0, 0.0)  # pruned while trained
PAIRED = Kinship(0.9, 0.9)  # a child of a trained parent


class Drawn(NamedTuple):
    """Test images of one ratio: true classes [N], evidence [cells, N, C], rare: bool [N]."""

    truth: np.ndarray
    evidence: np.ndarray
    rare: np.ndarray


def study(rng: np.random.Generator, seeds: int, kinship: Kinship) -> pd.DataFrame:
    """A results table of `INFOS` at two ratios, on clean images and under two corruptions.

    The true class leads the others (normal, of unit variance) by 5.2 +- 2 on clean images; members
    differ by accidents of standard deviation 0.7 for each image and class, half of whose variance
    is the same under every corruption, and by 0.3 for each class. Dense members answer 90 % of
    clean images rightly and 79 % of corrupted ones; two of them differ in 11 % of clean answers, a
    parent and its child with correlation 0.9 in 4 %. Half of the lower five classes, but 3 % of the
    upper ones, where they are harder, are a subgroup whose answers are read as lower or upper.
    """
    rows: list[dict] = []
    for ratio, counts in RATIOS.items():
        images = images_of_ratio(rng, np.asarray(counts))
        labels = answers_of_members(rng, images.evidence, seeds, kinship)
        rows += rows_of_answers(labels, images, ratio)
        if ratio == 1:
            rows += _subgroups(labels, images)
    return pd.DataFrame(rows)


def images_of_ratio(rng: np.random.Generator, counts: np.ndarray) -> Drawn:
    """Test images of networks that were trained with so many images a class [C]."""
    truth = np.repeat(np.arange(CLASSES), IMAGES // CLASSES)
    rare = rng.random(IMAGES) < np.where(truth >= 5, 0.03, 0.5)
    lead = rng.normal(5.2, 2.0, IMAGES) - 0.4 * np.log(counts.max() / counts)[truth]
    lead -= rare & (truth >= 5)
    evidence = rng.normal(size=(IMAGES, CLASSES))
    evidence[np.arange(IMAGES), truth] += lead
    shifted = evidence + rng.normal(0, 0.5, (len(CELLS) - 1, IMAGES, CLASSES))
    shifted[:, np.arange(IMAGES), truth] -= HARDER
    return Drawn(truth, np.concatenate([evidence[None], shifted]).astype(np.float32), rare)


def answers_of_members(
    rng: np.random.Generator,
    evidence: np.ndarray,
    seeds: int,
    kinship: Kinship,
    infos: Sequence[PipelineInfo] = INFOS,
) -> dict[str, np.ndarray]:
    """Answers [cells, seeds, N] by pipeline, to images with evidence [cells, N, C]."""
    parents, found = _accidents(rng, seeds, len(evidence)), {}
    near = {"trained": kinship.pruned, "post_training": kinship.quantized, "replica": 0.0}
    for info in infos:
        same = near.get(info.kind, 1.0)
        own = _accidents(rng, seeds, len(evidence)) if same < 1 else parents
        accidents = same * parents + np.sqrt(np.float32(1 - same**2)) * own
        found[info.name] = (evidence[:, None] + accidents).argmax(-1).astype(np.uint8)
    return found


def _accidents(rng: np.random.Generator, seeds: int, cells: int) -> np.ndarray:
    """What members add to the evidence: [cells, seeds, N, C] float32."""
    lasting = rng.standard_normal((seeds, IMAGES, CLASSES), np.float32)
    fresh = rng.standard_normal((cells, seeds, IMAGES, CLASSES), np.float32)
    by_class = rng.standard_normal((seeds, 1, CLASSES), np.float32)
    return np.float32(0.5) * (lasting + fresh) + np.float32(0.3) * by_class


def _member(name: str, seed: int, ratio: float, counts: tuple[int, ...]) -> MemberInfo:
    return MemberInfo(
        "simulated", "network", "exp", ratio, seed, name, f"{name} {seed} {ratio}", counts, 500, 0
    )


def rows_of_answers(labels: Mapping[str, np.ndarray], images: Drawn, ratio: float) -> list[dict]:
    """What a study measures of a ratio's answers, cell by cell of `CELLS`."""
    members = {
        (name, seed): _member(name, seed, ratio, RATIOS[ratio])
        for name, of_cells in labels.items()
        for seed in range(of_cells.shape[1])
    }
    certain = softmax(images.evidence[0], axis=1)
    human = -(certain * np.log(certain)).sum(1) / np.log(CLASSES)
    rows: list[dict] = []
    for place, (shift, severity) in enumerate(CELLS[: len(images.evidence)]):
        for (name, seed), info in members.items():
            rows += _measured(info, (shift, severity), labels[name][place, seed], images.truth)
        given = {name: dict(enumerate(of[place])) for name, of in labels.items()}
        where = ("simulated", "network", "exp", ratio, shift, severity)
        doubts = {"replica": disagreement(given["dense_again"]), "human": human}
        answers = Answers(given, images.truth, CLASSES, where)
        rows += forgotten_rows(answers, members, "dense", ["dense_again"], doubts)
    return rows


def _measured(info: MemberInfo, cell: tuple[str, float], answers, truth) -> list[dict]:
    """The rows that claims read: accuracy, and recall on clean images."""
    rows = [result_row(info, *cell, "accuracy", float((answers == truth).mean()))]
    if cell[0] != "clean":
        return rows
    by_class = recall(confusion_matrix(truth, answers, CLASSES))
    of_groups = group_recalls(by_class, GROUPS).items()
    rows += [result_row(info, *cell, f"recall_{name}", float(value)) for name, value in of_groups]
    return rows + [
        result_row(info, *cell, "recall", float(value), str(c)) for c, value in enumerate(by_class)
    ]


def _subgroups(labels: Mapping[str, np.ndarray], images: Drawn) -> list[dict]:
    """Rows of the subgroups among clean images, answers read as lower or upper classes."""
    rows, upper, group = [], images.truth >= 5, images.rare.astype(int)
    for name, of_cells in labels.items():
        for seed, answers in enumerate(of_cells[0]):
            info = _member(name, seed, 1.0, (2500, 2500))
            given = (upper.astype(int), group, SUBGROUPS)
            rows += subgroup_rows(info, "clean", 0.0, (answers >= 5).astype(int), *given)
            rows += training_rows(info, training_counts(*given[:2], 2, 2), SUBGROUPS)
    return rows
