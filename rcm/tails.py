"""The training data of each imbalance ratio, and how long a recipe trains on it."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from rcm import config
from rcm.config import Study
from rcm.data import longtail, wrong_labels
from rcm.data.datasets import Dataset


@dataclass(frozen=True)
class Tail:
    """The training data of one imbalance ratio: images per class [C], indices into the training
    split, and each class's group (head, medium, tail)."""

    counts: np.ndarray
    table: np.ndarray
    groups: tuple[str, ...]


def make_tails(study: Study, dataset: Dataset) -> tuple[dict[int, Tail], np.ndarray]:
    """(tail of each ratio, validation indices). Raises ValueError for impossible ratios.

    Groups are read off the largest ratio's counts, and are the same at every ratio.
    """
    data, labels, classes = study.data, dataset.train.labels, len(dataset.classes)
    per_class = None if data.val_per_class < 0 else data.val_per_class
    pool, validation = longtail.validation_split(labels, per_class, data.data_seed)
    n_max = int(np.bincount(labels[pool], minlength=classes).min())
    order = longtail.class_order(data.class_order, classes, data.data_seed)
    kind, minority = data.imbalance, data.minority
    counts = {
        ratio: longtail.class_counts(kind, n_max, ratio, classes, minority, order)
        for ratio in data.ratios
    }
    rarest = counts[max(data.ratios)]
    groups = tuple(str(g) for g in longtail.groups(rarest, kind, order, minority))
    tables = {r: longtail.tail_table(labels, pool, c, data.data_seed) for r, c in counts.items()}
    return {ratio: Tail(counts[ratio], tables[ratio], groups) for ratio in counts}, validation


def given_labels(study: Study, dataset: Dataset, tails: dict[int, Tail]) -> np.ndarray:
    """The classes that members are trained with, int32 [N] of the training split: the data set's,
    but for the share `label_noise` of each class in every tail. Raises ValueError if that is none.

    Classes are still counted, weighted and sampled by the data set's labels.
    """
    data, labels = study.data, dataset.train.labels
    if not data.label_noise:
        return labels
    largest, smallest = (tails[ratio].table for ratio in (min(data.ratios), max(data.ratios)))
    given = wrong_labels.plant(labels, largest, data.label_noise, data.data_seed)
    config.require(
        bool((given != labels)[smallest].any()),
        f"data.label_noise is {data.label_noise:g}, which is not half an image of any class: give "
        "a larger share, or 0 for none.",
    )
    return given


def steps_per_epoch(recipe: config.Train, tail: Tail) -> int:
    """Steps of an epoch: of the balanced set's, or (budget `epochs`) of this tail's own."""
    if recipe.budget == "epochs":
        return -(-int(tail.counts.sum()) // recipe.batch)
    return longtail.steps_per_epoch(len(tail.counts), int(tail.counts.max()), recipe.batch)


def steps_of(recipe: config.Train, tail: Tail) -> int:
    """Steps of a recipe for members of this tail."""
    return recipe.steps or max(1, round(recipe.epochs * steps_per_epoch(recipe, tail)))


def tail_identity(data: config.Data, ratio: int) -> dict:
    """The fields that decide which images of a data set a member is trained on, and under which
    labels, as plain data; the rest blank, and what only decides which data set it is left out."""
    minority = data.minority if data.imbalance == "step" else 0.0
    blank = dataclasses.replace(
        data, name="", data_dir="", feed="", ratios=(ratio,), minority=minority
    )
    fields = config.plain(blank)
    # without noise it stays unnamed, as it was before there was any
    unnamed = {"size", "skip_unreadable", *(() if data.label_noise else ("label_noise",))}
    return {name: fields[name] for name in fields if name not in unnamed}
