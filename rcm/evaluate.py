"""population x shifts -> predictions: what every member answers to every shifted image.

Images are shifted once per cell and batch and shown to all lanes. What is stored is in DESIGN's
words: logits for clean cells, four numbers per image for every other. An attack makes images of its
own for every member; of each it also keeps the share of pixels without any gradient.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rcm import sweep
from rcm.cells import BATCH, AttackSpec, CellSpec, padded_rows
from rcm.sweep import Execution
from rcm.train.fit import Program, without_recipe

ZERO_GRADIENT = "zero_gradient"  # stored share of a clean image's pixels without a gradient
OVERSTEP = 1e-5  # of eps, by which rounding may leave the ball
HALF_MAX = 6e4  # float16 ends at 65,504


def fields(logits: np.ndarray, labels: np.ndarray, clean: bool) -> dict[str, np.ndarray]:
    """What is stored of logits float32 [M, N, C]: label, three float16 numbers, clean: logits too.

    log-probabilities are natural; sum_p2 is the sum over classes of p^2.
    """
    logits = np.clip(
        np.nan_to_num(logits), -HALF_MAX, HALF_MAX
    )  # a diverged member's may be anything
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = np.maximum(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)), -HALF_MAX)
    label = logits.argmax(-1)
    true = np.broadcast_to(labels[None, :, None], (*label.shape, 1))
    small = np.uint8 if logits.shape[-1] <= 256 else np.uint16
    stored = {
        "label": label.astype(small),
        "logp_pred": np.take_along_axis(log_p, label[..., None], -1)[..., 0].astype(np.float16),
        "logp_true": np.take_along_axis(log_p, true, -1)[..., 0].astype(np.float16),
        "sum_p2": np.exp(2 * log_p).sum(-1).astype(np.float16),
    }
    return stored | ({"logits": logits.astype(np.float16)} if clean else {})


def predict_cell(
    program: Program,
    execution: Execution,
    rounds: Sequence[Any],
    cell: CellSpec,
    advance: Callable[[int], None],
) -> np.ndarray:
    """Logits float32 [members (padded), N, C] of one cell; `rounds` are placed states [L, ...].

    advance(images) is called after every batch that all rounds have seen.
    """
    function = sweep.compiled_predict(without_recipe(program), sweep.one_call(execution))
    batches = []
    for start in range(0, len(cell.ids), BATCH):
        images = sweep.share(execution, cell.batch(start))
        batches.append([function(images, states) for states in rounds])
        if len(batches) > 1:  # wait for the batch before, so that two are in flight and no more
            batches[-2] = [np.asarray(logits) for logits in batches[-2]]
        advance(min(BATCH, len(cell.ids) - start))
    by_round = [
        np.concatenate([np.asarray(x) for x in row], 1) for row in zip(*batches, strict=True)
    ]
    return np.concatenate(by_round)[:, : len(cell.ids)]


def attack_cell(
    program: Program,
    execution: Execution,
    rounds: Sequence[Any],
    cell: AttackSpec,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """(logits float32 [members (padded), N, C] of the images that an attack made for each member,
    share of zero input gradients float32 [members, N]).

    Raises RuntimeError if an image left the ball or [0, 1]: an error in the attack.
    """
    attack = cell.attack
    one = sweep.one_call(execution)
    function = sweep.compiled_attack(without_recipe(program), one, attack.name, attack.norm)
    numbers = (np.float32(cell.eps / 255), np.int32(attack.steps), np.float32(attack.step_size),
               np.int32(attack.restarts))  # fmt: skip
    stream = np.uint32(zlib.crc32(cell.shift.encode()))
    key = jax.random.fold_in(jax.random.key(cell.seed), stream)
    batches = []
    for start in range(0, len(cell.ids), BATCH):
        rows = padded_rows(start, len(cell.ids))
        own = (np.asarray(cell.images[rows]), cell.labels[rows].astype(np.int32), cell.ids[rows])
        given = sweep.share(execution, (key, *own, numbers))
        made = [function(*given, states) for states in rounds]
        batches.append([jax.tree.map(np.asarray, one_round) for one_round in made])
        advance(min(BATCH, len(cell.ids) - start))
    logits, zero, overstep = (
        np.concatenate(
            [np.concatenate([part[i] for part in row], 1) for row in zip(*batches, strict=True)]
        )[:, : len(cell.ids)]
        for i in range(3)
    )
    if not np.all(overstep <= OVERSTEP):
        raise RuntimeError(
            f"{cell.key} moved pixels out of their range: {np.nanmax(overstep):.2g} beyond."
        )
    return logits, zero
