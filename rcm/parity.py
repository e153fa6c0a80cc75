"""Whether an exported file does what the simulated model does, judged by its logits."""

from typing import NamedTuple

import numpy as np


class Bound(NamedTuple):
    """How far a file may be from the simulated model on the test images.

    accuracy: the accuracies may differ by this share of the images, and so may labels; factor: in a
    full-integer file, as many labels may differ as between the simulated int8 model and the float
    one, times this.
    """

    accuracy: float = 0.005
    factor: float = 1.5


STANDARD = Bound()


class Agreement(NamedTuple):
    """A file beside the simulated model, over the test images.

    Shares: both accuracies, `disagreement` (labels that differ) and how much of it is `allowed`;
    error: the mean difference of a logit; quantization: the same between the model without
    quantization and the simulated one, 0 if that has none; close: whether the file may be written.
    """

    accuracy: float
    simulated: float
    disagreement: float
    allowed: float
    error: float
    quantization: float
    close: bool


def compare(
    found: np.ndarray,
    simulated: np.ndarray,
    unquantized: np.ndarray | None,
    labels: np.ndarray,
    bound: Bound = STANDARD,
    integer: bool = False,
) -> Agreement:
    """Logits [N, classes] of a file, of the simulated model and, if that is quantized, of the model
    without it; labels int [N] are the true ones.

    A file in integers is close within the bound. One that simulates like its model also has to lie
    nearer to it than half-way to the model without quantization, which a converter that drops
    quantization gives.
    """
    before = simulated if unquantized is None else unquantized
    ours, expected = found.argmax(-1), simulated.argmax(-1)
    right = [int(np.sum(predicted == labels)) for predicted in (ours, expected)]
    error, quantization = (float(np.abs(x - simulated).mean()) for x in (found, before))
    allowed, kept = bound.accuracy, error <= quantization / 2
    if integer:
        allowed = max(allowed, bound.factor * float(np.mean(before.argmax(-1) != expected)))
    disagreement, count = float(np.mean(ours != expected)), len(labels)
    accurate = abs(right[0] - right[1]) <= bound.accuracy * count
    close = accurate and disagreement <= allowed and bool(np.isfinite(error))
    close = close and (integer or unquantized is None or kept)
    rates = (right[0] / count, right[1] / count, disagreement, allowed)
    return Agreement(*rates, error, quantization, close)
