"""One training step of one member: a pure function, without lanes, devices or I/O."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rcm.compress.base import Info
from rcm.compress.distill import DISTILLATIONS, PROJECTION, Lesson, Seen, ensemble_logits
from rcm.config import LOOK_INSIDE
from rcm.data.augment import to_float
from rcm.models.layers import FEATURES, exposed
from rcm.train.losses import LossHyper, training_loss


class TrainState(NamedTuple):
    """Everything a member is. `alive` turns False, for good, at its first non-finite loss."""

    variables: dict[str, Any]  # params, batch_stats and, once calibrated, quant
    optimizer: Any
    compression: tuple[Any, ...]  # one state per technique of the chain
    alive: Array  # bool scalar


class Hyper(NamedTuple):
    """A member's traced numbers; nothing here causes a new compilation."""

    seed: Array | np.unsignedinteger  # uint32 scalar, keys augmentation
    weight_decay: Array | np.floating  # float32 scalar
    loss: LossHyper


class Batch(NamedTuple):
    """images uint8 [B, H, W, 3], labels int32 [B], learning_rate float32 scalar."""

    images: Array
    labels: Array
    learning_rate: Array


class Metrics(NamedTuple):
    """Means over the batch, float32 scalars: the training loss and the share of right answers."""

    loss: Array
    accuracy: Array


def train_step(
    parts: Any, state: TrainState, teacher: Any, hyper: Hyper, batch: Batch, step: Array
) -> tuple[TrainState, Metrics]:
    """The state after one batch, and the batch's metrics.

    `parts` are the program's static `rcm.train.fit.Parts`; `teacher` a tuple of the teachers'
    effective variables or None; `step` an int32 scalar, the steps of this stage already taken.
    Gradients are taken with respect to the effective parameters and pulled back through the chain,
    so that the compressors see the former and the optimizer the latter. A member whose loss or
    running statistics are not finite keeps its last state and is marked.
    """
    key = jax.random.fold_in(jax.random.key(hyper.seed), step)
    crop_key, update_key = jax.random.split(key)
    images = to_float(parts.augment(crop_key, batch.images))
    variables = state.variables

    observed = {name: variables[name] for name in ("batch_stats", "quant") if name in variables}

    def effective(params):
        seen = parts.chain.apply({**variables, "params": params}, state.compression)
        return seen["params"], {"quant": seen["quant"]} if "quant" in seen else {}

    params, pull_back, quant = jax.vjp(effective, variables["params"], has_aux=True)

    def loss_of(params, quant):
        shown = {**observed, **quant, "params": params}
        logits, updated, seen = answer(parts, shown, images, (*observed,))
        distilled = None
        if teacher is not None:
            temperature, projection = hyper.loss.temperature, params.get(PROJECTION)
            taught = teach(parts, teacher, images, temperature)
            constants = hyper.loss.constants
            lesson = Lesson(seen, taught, batch.labels, temperature, constants, projection)
            distilled = DISTILLATIONS[parts.distillation](lesson)
        loss = training_loss(logits, batch.labels, hyper.loss, distilled, step)
        return loss, (logits, updated)

    wanted = (0, 1) if parts.chain.learns_ranges else (0,)
    slopes = jax.value_and_grad(loss_of, wanted, has_aux=True, allow_int=True)
    (loss, (logits, updated)), (grads, *rest) = slopes(params, quant)
    updated = {name: _like(old, updated[name]) for name, old in observed.items()}
    pulled, before, rate = pull_back(grads)[0], variables["params"], batch.learning_rate
    numbers = (rate, hyper.weight_decay)
    moved, optimizer = parts.optimizer.step(pulled, state.optimizer, before, *numbers)
    moved_variables = {**variables, **updated, "params": moved}
    info = Info(
        step=step,
        key=update_key,
        grads=grads,
        learning_rate=rate,
        before=before,
        quant_grads=rest[0].get("quant") if rest else None,
    )
    new_variables, compression = parts.chain.update(state.compression, moved_variables, info)

    new = while_alive(state, TrainState(new_variables, optimizer, compression, state.alive), loss)
    accuracy = (logits.argmax(-1) == batch.labels).mean(dtype=jnp.float32)
    return new, Metrics(loss, accuracy)


def answer(parts: Any, variables: Any, images: Array, observed: tuple[str, ...]):
    """What a member answers in training: logits, its collections `observed` after the batch, and
    what a lesson sees of it."""
    inside = [FEATURES] if parts.distillation in LOOK_INSIDE else []
    logits, updated = parts.model.apply(variables, images, train=True, mutable=[*observed, *inside])
    return logits, updated, Seen(logits, exposed(updated) if inside else ())


def while_alive(old: TrainState, new: TrainState, loss: Array) -> TrainState:
    """The new state of a member whose losses are all finite; else the old one, marked.

    So must be its running statistics: packed convolutions hide from the loss what is not.
    """
    observed = [loss, *jax.tree.leaves(new.variables.get("batch_stats"))]
    alive = old.alive & jnp.stack([jnp.isfinite(x).all() for x in observed]).all()
    kept = jax.tree.map(lambda after, before: jnp.where(alive, after, before), new, old)
    return kept._replace(alive=alive)


def teach(parts: Any, teachers: tuple, images: Array, temperature: Array) -> Seen:
    """What the teachers show the student of a batch, in inference mode."""
    if parts.distillation in LOOK_INSIDE:  # one teacher
        logits, updated = parts.teacher.apply(teachers[0], images, mutable=[FEATURES])
        return Seen(logits, exposed(updated))
    logits = [parts.teacher.apply(teacher, images) for teacher in teachers]
    return Seen(ensemble_logits(logits, temperature))


def _like(old: Any, new: Any) -> Any:
    """What `new` holds of the entries of `old`: ranges, without the bits put beside them."""
    if not isinstance(old, Mapping):
        return new
    return {name: _like(child, new[name]) for name, child in old.items()}
