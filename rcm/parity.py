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
    error: the mean difference of a logit; kept: whether quantization is in the file.
    """

    accuracy: float
    simulated: float
    disagreement: float
    allowed: float
    error: float
    kept: bool
    close: bool  # whether the file may be written


def compare(
    found: np.ndarray,
    simulated: np.ndarray,
    without: np.ndarray | None,
    labels: np.ndarray,
    bound: Bound = STANDARD,
    integer: bool = False,
) -> Agreement:
    """Logits [N, classes] of a file, of the simulated model and, if that is quantized, without
    quantization: of the float model for a file in integers, else of the simulated model with float
    activations. labels int [N] are the true ones.

    A simulation is not asked for the same logits: in another order of float sums a few activations
    round to the next step, which in deep networks grows to the size of quantization itself. But it
    must not be what a converter gives that drops quantization, which is `without` exactly.
    """
    without = simulated if without is None else without
    ours, expected = found.argmax(-1), simulated.argmax(-1)
    right = [int(np.sum(predicted == labels)) for predicted in (ours, expected)]
    disagreement, count = float(np.mean(ours != expected)), len(labels)
    allowed, kept = bound.accuracy, True
    if integer:
        allowed = max(allowed, bound.factor * float(np.mean(without.argmax(-1) != expected)))
    else:
        kept = bool(np.abs(found - without).mean() >= np.abs(simulated - without).mean() / 2)
    accurate = abs(right[0] - right[1]) <= bound.accuracy * count
    error = float(np.abs(found - simulated).mean())
    close = accurate and disagreement <= allowed and kept and bool(np.isfinite(error))
    rates = (right[0] / count, right[1] / count, disagreement, allowed)
    return Agreement(*rates, error, kept, close)
