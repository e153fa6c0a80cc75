"""Classification losses for one member, and the repairs for imbalanced classes.

Everything that a sweep varies is a traced number in `LossHyper`; with weights 1, offset 0 and
smoothing 0 the loss is plain cross entropy to the bit, so one program serves every loss. Entries
that are None are no part of the program: margins come with a cosine classifier, `begin` with
deferred weights.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm import config
from rcm.models.layers import COSINE_SCALE

LARGEST_MARGIN = 0.5  # of LDAM, in units of the cosine


class LossHyper(NamedTuple):
    """The numbers of a training loss, all float32 and traced.

    class_weight [C]: factor of an example's loss by its label; offset [C]: added to the logits;
    smoothing: share of the target spread evenly over the classes; mixing: share of the distillation
    loss; temperature: of the distillation. margin [C] or None: what a label's cosine must lead by;
    begin: the step (int32) from which class weights hold, or None: from the start; constants: of
    the distillation by name (`rcm.compress.distill`).
    """

    class_weight: Array | np.ndarray
    offset: Array | np.ndarray
    smoothing: Any
    mixing: Any
    temperature: Any
    margin: Array | np.ndarray | None = None
    begin: Any = None
    constants: Mapping[str, Any] | None = None


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


def margins(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """LDAM's margin of each class, float32 [C]: n^(-1/4), scaled to at most 0.5 (Cao et al. 2019,
    1906.07413); ValueError if a class is empty."""
    margin = _positive(counts) ** -0.25
    return (margin * LARGEST_MARGIN / margin.max()).astype(np.float32)


def training_loss(
    logits: Array,
    labels: Array,
    hyper: LossHyper,
    distilled: Array | None = None,
    step: Array | int = 0,
) -> Array:
    """Mean over the batch of the weighted, adjusted cross entropy, float32 scalar, in nats.

    logits [B, C], labels int [B]. With the distillation loss of each example [B]: mixing *
    distilled + (1 - mixing) * cross entropy; without it mixing plays no part. The mean is over
    examples, not over their weights, as in Cui et al. 2019 (LDAM's authors divide by the weights).
    step: of this stage, for weights that are deferred.
    """
    adjusted_logits = adjusted(logits, hyper.offset, 1)
    if hyper.margin is not None:
        lead = jax.nn.one_hot(labels, logits.shape[-1]) * hyper.margin[None, :]
        adjusted_logits = adjusted_logits - COSINE_SCALE * lead
    loss = cross_entropy(adjusted_logits, labels, hyper.smoothing)
    weight = hyper.class_weight
    if hyper.begin is not None:
        weight = jnp.where(step >= hyper.begin, weight, 1)
    loss = loss * weight[labels]
    if distilled is not None:
        loss = hyper.mixing * distilled + (1 - hyper.mixing) * loss
    return loss.mean()


def _cross_entropy(counts: Sequence[int], tau: float) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(counts), np.float32), np.zeros(len(counts), np.float32)


def _logit_adjusted(counts: Sequence[int], tau: float) -> tuple[np.ndarray, np.ndarray]:
    return np.float32(tau) * log_prior(counts), np.zeros(len(counts), np.float32)


def _ldam(counts: Sequence[int], tau: float) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(counts), np.float32), margins(counts)


# name -> function(class counts [C], tau) -> (offset, margin), both float32 numpy [C]
LOSSES: dict[str, Callable[[Sequence[int], float], tuple[np.ndarray, np.ndarray]]] = {
    "cross_entropy": _cross_entropy,
    "logit_adjusted": _logit_adjusted,
    "ldam": _ldam,
}


def defers_weights(recipe: config.Train) -> bool:
    """Whether the recipe's class weights come in late: another program, by one comparison."""
    return recipe.weights != "none" and recipe.defer > 0


def class_numbers(
    recipe: config.Train,
    counts: Sequence[int] | np.ndarray,
    begin: int,
    classifier: str,
    distill: config.Distill | None = None,
) -> dict[str, Any]:
    """What of `LossHyper` depends on the class counts [C] and on the kind of distillation.

    begin: the step of the stage from which class weights hold, where they are deferred; classifier:
    of the network; only a cosine has margins.
    """
    offset, margin = LOSSES[recipe.loss](list(counts), recipe.tau)
    return {
        "class_weight": class_weights(counts, recipe.weights),
        "offset": offset,
        "margin": margin if classifier == "cosine" else None,
        "begin": np.int32(begin) if defers_weights(recipe) else None,
        "constants": _constants(distill, counts),
    }


def _constants(
    distill: config.Distill | None, counts: Sequence[int] | np.ndarray
) -> dict[str, Any] | None:
    match distill:
        case config.Distill(kind="decoupled"):
            return {"alpha": np.float32(distill.alpha), "beta": np.float32(distill.beta)}
        case config.Distill(kind="class_balanced"):
            return {"class_weight": class_weights(counts, "class_balanced")}
        case config.Distill(kind="attention"):
            return {"strength": np.float32(distill.attention)}
        case config.Distill(kind="features"):
            return {"strength": np.float32(distill.hint)}
    return None


def _positive(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or counts.size == 0 or (counts < 1).any():
        raise ValueError(
            "class counts must be a list of at least one image per class, "
            f"got {counts.tolist()}; leave empty classes out or lower the imbalance ratio."
        )
    return counts
