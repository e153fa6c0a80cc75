"""How far probabilities can be believed: scores and calibration errors of one member. numpy only.

Every binned error is biased upwards where images are few, since noise within a bin does not cancel:
compare members on the same images only.
"""

import numpy as np
from numpy.typing import NDArray

from rcm.analysis.classification import Floats, Labels

BINS = 15  # Guo et al. 2017


def calibration_errors(
    labels_true: Labels, labels_pred: Labels, logp_pred: Floats, bins: int = BINS
) -> tuple[float, float]:
    """Expected calibration error, sum over bins B of the confidence of |B|/N |acc(B) - conf(B)|: a
    fraction by bins (lo, hi] of equal width, and one by bins of N / bins images each.

    The confidence is exp(logp_pred), the probability of the predicted class; NaN where one is not
    known. Sources: Guo et al. 2017 (arXiv 1706.04599), equation 3, with their 15 bins; for equal
    mass Nguyen & O'Connor 2015 (arXiv 1508.05154) and Nixon et al. 2019 (arXiv 1904.01685).
    Images whose log-probability is the same in float16, as it is stored, are shared out over the
    bins of equal mass that they reach into, each with their mean rate of right answers, so that
    neither their order nor a division with remainder counts.
    """
    logp = np.asarray(logp_pred)
    confidence = np.exp(logp.astype(np.float32))
    if not np.isfinite(confidence).all() or confidence.size == 0:
        return float("nan"), float("nan")
    surplus = (np.asarray(labels_true) == np.asarray(labels_pred)) - confidence
    width = _over_equal_widths(confidence, surplus, bins)
    return width, _over_equal_masses(logp.astype(np.float16), surplus, bins)


def reliability(
    labels_true: Labels, labels_pred: Labels, logp_pred: Floats, bins: int = BINS
) -> dict[str, Floats]:
    """What a reliability diagram shows (Guo et al. 2017, figure 1): by bin (lo, hi] of equal width
    of the confidence `bin_count`, images, and the fractions `bin_accuracy` and `bin_confidence`,
    float64 [bins] each, NaN in a bin without images and wherever a confidence is not known."""
    confidence = np.exp(np.asarray(logp_pred, np.float64))
    if not np.isfinite(confidence).all():
        confidence = np.zeros(0)
    right = np.asarray(labels_true)[: confidence.size] == np.asarray(labels_pred)[: confidence.size]
    bin_of = np.maximum(np.ceil(np.minimum(confidence, 1) * bins).astype(np.uint16), 1) - 1
    counts = np.bincount(bin_of, minlength=bins).astype(np.float64)
    counts[counts == 0] = np.nan
    sums = {"bin_accuracy": right, "bin_confidence": confidence}
    means = {n: np.bincount(bin_of, values, minlength=bins) / counts for n, values in sums.items()}
    return {"bin_count": counts, **means}


def _over_equal_widths(p: Floats, surplus: Floats, bins: int) -> float:
    """Sum over bins (lo, hi] of p of |sum of surplus| / N; p = 0 is in the first bin."""
    bin_of = np.ceil(np.minimum(p, 1) * bins).astype(np.uint16)
    sums = np.bincount(bin_of, surplus, minlength=bins + 1)
    sums[1] += sums[0]
    return float(np.abs(sums[1:]).sum() / p.size)


def _over_equal_masses(logp: NDArray[np.float16], surplus: Floats, bins: int) -> float:
    """Sum over equal-mass bins of |sum of surplus| / N; the sum up to a border within equal
    log-probabilities is on the line between their ends."""
    steps = np.abs(logp).view(np.uint16)  # float16 of one sign are in the order of their bits
    counts = np.bincount(steps)
    found = np.flatnonzero(counts)
    ends = np.append(0, np.cumsum(counts[found]))
    upto = np.append(0.0, np.cumsum(np.bincount(steps, surplus)[found]))
    at_borders = np.interp(np.linspace(0, steps.size, bins + 1), ends, upto)
    return float(np.abs(np.diff(at_borders)).sum() / steps.size)


def classwise_calibration_error(
    labels_true: Labels, probabilities: Floats, bins: int = BINS
) -> float:
    """Mean over classes c of the sum over bins B of p_c of |B|/N |share of c in B - mean p_c|.

    Bins are of equal width; labels_true [N], probabilities [N, C]. NaN for probabilities that are
    not finite, and without images. Sources: Kull et al. 2019 (arXiv 1910.12656), section 2; Nixon
    et al. 2019 (arXiv 1904.01685), the static calibration error.
    """
    p = np.asarray(probabilities)
    if p.ndim != 2 or p.shape[:1] != np.shape(labels_true):
        raise ValueError(
            f"probabilities have shape {p.shape} for {np.shape(labels_true)} labels, expected "
            "[N, C] and [N]; pass one row per image"
        )
    if not p.size or not np.isfinite(p).all():
        return float("nan")
    labels = np.asarray(labels_true)
    errors = [
        _over_equal_widths(p_class, (labels == class_id) - p_class, bins)
        for class_id, p_class in enumerate(p.T)
    ]
    return float(np.mean(errors))


def softmax(logits: Floats) -> Floats:
    """Probabilities float32 [N, C] of logits [N, C]; NaN for an image with infinite ones."""
    by_class = np.asarray(logits).T.astype(np.float32, order="C")  # quick along images
    with np.errstate(invalid="ignore"):
        by_class -= by_class.max(axis=0)
        np.exp(by_class, out=by_class)
        by_class /= by_class.sum(axis=0)
    return by_class.T


def nll(logp_true: Floats) -> float:
    """Mean negative log-likelihood of the true class, in nats; a NaN prediction makes it NaN."""
    logp_true = np.asarray(logp_true, np.float64)
    return float(-logp_true.mean()) if logp_true.size else float("nan")


def brier(logp_true: Floats, sum_p2: Floats) -> float:
    """Mean of sum_c (p_c - y_c)^2 = 1 - 2 p_true + sum_c p_c^2 (Brier 1950), between 0 and 2."""
    p_true = np.exp(np.asarray(logp_true, np.float32))
    if not p_true.size:
        return float("nan")
    return float(1 - 2 * p_true.mean(dtype=np.float64) + np.mean(sum_p2, dtype=np.float64))
