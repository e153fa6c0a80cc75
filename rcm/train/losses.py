"""Classification losses for one member, and the repairs for imbalanced classes.

Everything that a sweep varies is a traced number in `LossHyper`; with weights 1, offset 0 and
smoothing 0 the loss is plain cross entropy to the bit, so one program serves every loss.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm import config
from rcm.compress.distill import distillation_loss


class LossHyper(NamedTuple):
    """The numbers of a training loss, all float32 and traced.

    class_weight [C]: factor of an example's loss by its label; offset [C]: added to the logits;
    smoothing: share of the target spread evenly over the classes; mixing: share of the distillation
    loss; temperature: of the distillation.
    """

    class_weight: Array | np.ndarray
    offset: Array | np.ndarray
    smoothing: Any
    mixing: Any
    temperature: Any


def cross_entropy(logits: Array, labels: Array, smoothing: Array | float) -> Array:
    """Loss in nats of each example: logits [B, C], labels int [B] -> float32 [B].

    The target is (1 - smoothing) one-hot + smoothing / C (Szegedy et al. 2016, 1512.00567).
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    of_label = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return -(1 - smoothing) * of_label - smoothing * log_p.mean(1)


def class_weights(
    counts: Sequence[int] | np.ndarray, kind: str, beta: float = 0.9999
) -> np.ndarray:
    """Weight of each class, float32 [C], from its number of training images.

    "none": ones. "class_balanced": (1 - beta) / (1 - beta^n), scaled to sum to the number of
    classes (Cui et al. 2019, 1901.05555). Raises ValueError for another kind or an empty class.
    """
    counts = _positive(counts)
    config.choose("kind of class weights", kind, ("none", "class_balanced"))
    if kind == "none":
        return np.ones(len(counts), np.float32)
    weight = (1 - beta) / (1 - beta**counts)
    return (weight * len(counts) / weight.sum()).astype(np.float32)


def log_prior(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """log of each class's share of the training images, float32 [C]; ValueError if one is empty."""
    counts = _positive(counts)
    return np.log(counts / counts.sum()).astype(np.float32)


def adjusted(logits: Array, log_prior: Array | np.ndarray, tau: Array | float) -> Array:
    """logits [B, C] + tau log_prior [C]: logit adjustment (Menon et al. 2021, 2007.07314).

    During training tau > 0 (1 is the balanced softmax); post hoc, on a model that was trained
    without, pass -tau.
    """
    return logits + (tau * log_prior)[None, :]


def training_loss(
    logits: Array, labels: Array, hyper: LossHyper, teacher_logits: Array | None = None
) -> Array:
    """Mean over the batch of the weighted, adjusted cross entropy, float32 scalar, in nats.

    logits [B, C], labels int [B]. With teacher logits [B, C]: mixing * distillation (of the
    logits without offset) + (1 - mixing) * cross entropy; without them mixing plays no part.
    The mean is over examples, not over their weights, as in Cui et al. 2019.
    """
    loss = cross_entropy(adjusted(logits, hyper.offset, 1), labels, hyper.smoothing)
    loss = loss * hyper.class_weight[labels]
    if teacher_logits is not None:
        distilled = distillation_loss(logits, teacher_logits, hyper.temperature)
        loss = hyper.mixing * distilled + (1 - hyper.mixing) * loss
    return loss.mean()


def _cross_entropy(counts: Sequence[int], tau: float) -> tuple[np.ndarray, np.ndarray]:
    return class_weights(counts, "none"), np.zeros(len(counts), np.float32)


def _class_balanced(counts: Sequence[int], tau: float) -> tuple[np.ndarray, np.ndarray]:
    return class_weights(counts, "class_balanced"), np.zeros(len(counts), np.float32)


def _logit_adjusted(counts: Sequence[int], tau: float) -> tuple[np.ndarray, np.ndarray]:
    return class_weights(counts, "none"), np.float32(tau) * log_prior(counts)


# name -> function(class counts [C], tau) -> (class_weight, offset), both float32 numpy [C]
LOSSES: dict[str, Callable[[Sequence[int], float], tuple[np.ndarray, np.ndarray]]] = {
    "cross_entropy": _cross_entropy,
    "class_balanced": _class_balanced,
    "logit_adjusted": _logit_adjusted,
}


def _positive(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or counts.size == 0 or (counts < 1).any():
        raise ValueError(
            "class counts must be a list of at least one image per class, "
            f"got {counts.tolist()}; leave empty classes out or lower the imbalance ratio."
        )
    return counts
