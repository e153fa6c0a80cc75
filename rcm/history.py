"""What a round's training looked like, in few points: loss and accuracy of its batches by step."""

from collections.abc import Mapping
from typing import Any

import numpy as np

POINTS = 50
History = dict[str, np.ndarray]


def start(members: int, steps: int, earlier: Mapping[str, Any] | None = None) -> History:
    """Nothing seen yet of a round of `steps` steps, or `earlier`, what was seen of it.

    Sums over spans of steps, as many as fit into `POINTS`: `batches` [P], `loss` and `accuracy`
    [members, P], float64.
    """
    if earlier:
        return {name: np.array(values, np.float64) for name, values in earlier.items()}
    points = min(POINTS, steps)
    shapes = {"batches": (points,), "loss": (members, points), "accuracy": (members, points)}
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def add(history: History, steps: int, first: int, loss: np.ndarray, accuracy: np.ndarray) -> None:
    """Count the batches from step `first` on in; loss and accuracy: [members or more, K]."""
    members, points = history["loss"].shape
    spans = np.arange(first, first + loss.shape[1]) * points // steps
    np.add.at(history["batches"], spans, 1)
    for name, values in (("loss", loss), ("accuracy", accuracy)):
        np.add.at(history[name].T, spans, np.asarray(values[:members], np.float64).T)


def exact(history: History) -> dict[str, list]:
    """As JSON that loses nothing, of a round that goes on."""
    return {name: values.tolist() for name, values in history.items()}


def plain(history: History) -> dict[str, list]:
    """As JSON; six digits are more than a curve shows."""
    return {name: [*map(_rounded, values)] for name, values in history.items()}


def _rounded(values: np.ndarray) -> Any:
    return [float(f"{value:.6g}") for value in values] if values.ndim else float(values)
