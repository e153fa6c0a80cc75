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

from rcm import heap, sweep
from rcm.analysis.metrics import bounded, cell_of
from rcm.cells import BATCH, AttackSpec, CellSpec, DomainSpec, OfficialSpec, Spec, padded_rows
from rcm.sweep import Execution
from rcm.train.fit import Program, without_recipe

ZERO_GRADIENT = "zero_gradient"  # stored share of a clean image's pixels without a gradient
# by which rounding may leave the ball: of eps, and of a float32 pixel, two units in its last place
OVERSTEP, PIXEL = 1e-5, 2.0**-23


def rounding(cell: AttackSpec) -> float:
    """By how much of eps an attack's images may leave the ball: an L2 length sums what rounding
    does to all of an image's numbers, up to the root of their count times that of one."""
    together = np.prod(cell.images.shape[1:]) ** 0.5 if cell.attack.norm == "l2" else 1.0
    return float(OVERSTEP + PIXEL * together / (cell.eps / 255))


def fields(logits: np.ndarray, labels: np.ndarray, clean: bool) -> dict[str, np.ndarray]:
    """What is stored of logits float32 [M, N, C]: the fields of `Cell` [M, N]; clean: logits, too,
    float16."""
    stored = cell_of(logits, labels)._asdict()
    return stored | ({"logits": bounded(logits).astype(np.float16)} if clean else {})


def predict_cell(
    program: Program,
    execution: Execution,
    rounds: Sequence[Any],
    cell: CellSpec | DomainSpec | OfficialSpec,
    advance: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """The fields [members (padded), N, ...] of one cell; `rounds` are placed states [L, ...].

    advance(images) is called after every batch that all rounds have answered.
    """
    function = sweep.compiled_predict(without_recipe(program), sweep.one_call(execution))

    def answers(start: int) -> list[Any]:
        images = sweep.share(execution, cell.batch(start))
        return [function(images, states) for states in rounds]

    def kept(start: int, logits: Any) -> dict[str, np.ndarray]:
        return fields(np.asarray(logits), _labels(cell, start), cell.clean)

    return _by_batches(answers, kept, len(cell.ids), advance)


def lower_cell(
    program: Program,
    execution: Execution,
    member: Any,
    cell: Spec,
    source: tuple[Program, Any] | None = None,
) -> jax.stages.Lowered:
    """The program that answers a batch of a cell, or attacks it, before it is compiled; of members
    like this one, and like the `source`'s that are attacked in their place, only shapes are read.
    """
    program, execution = without_recipe(program), sweep.one_call(execution)
    states = [sweep.shapes(execution, sweep.alike(member, execution.lanes))]
    if isinstance(cell, AttackSpec):
        attack, attacked = cell.attack, None
        if source:
            attacked = without_recipe(source[0])
            states.append(sweep.shapes(execution, sweep.alike(source[1], execution.lanes)))
        function = sweep.compiled_attack(program, attacked, execution, attack.name, attack.norm)
        return function.lower(*_attacked(cell, execution, 0), tuple(states))
    images = np.zeros((BATCH, *program.image), np.uint8)
    return sweep.compiled_predict(program, execution).lower(sweep.share(execution, images), *states)


def attack_cell(
    program: Program,
    execution: Execution,
    rounds: Sequence[Any],
    cell: AttackSpec,
    advance: Callable[[int], None],
    source: tuple[Program, Sequence[Any]] | None = None,
) -> dict[str, np.ndarray]:
    """The fields [members (padded), N] of the images that an attack made for each member, and
    float16 `ZERO_GRADIENT`.

    source: program and rounds of the members that are attacked in their place; the share of zero
    gradients is theirs. Raises RuntimeError if an image left the ball or [0, 1]: an error in the
    attack.
    """
    attack = cell.attack
    attacked, others = (without_recipe(source[0]), source[1]) if source else (None, None)
    own = (without_recipe(program), attacked, sweep.one_call(execution))
    function = sweep.compiled_attack(*own, attack.name, attack.norm)
    members = list(zip(rounds, others, strict=True) if others else zip(rounds, strict=True))

    def answers(start: int) -> list[Any]:
        given = _attacked(cell, execution, start)
        return [function(*given, states) for states in members]

    def kept(start: int, answer: Any) -> dict[str, np.ndarray]:
        logits, zero, overstep = map(np.asarray, answer)
        if not np.all(overstep <= rounding(cell)):
            raise RuntimeError(
                f"{cell.key} moved pixels out of their range: {overstep.max():.2g} beyond."
            )
        made = fields(logits, _labels(cell, start), cell.clean)
        return {**made, ZERO_GRADIENT: zero.astype(np.float16)}

    return _by_batches(answers, kept, len(cell.ids), advance)


def _attacked(cell: AttackSpec, execution: Execution, start: int) -> tuple:
    """The arguments of an attack that all lanes share: its key, the batch that begins at `start`,
    and its numbers."""
    attack, rows = cell.attack, padded_rows(start, len(cell.ids))
    numbers = (np.float32(cell.eps / 255), np.int32(attack.steps), np.float32(attack.step_size),
               np.int32(attack.restarts))  # fmt: skip
    stream = np.uint32(zlib.crc32(cell.shift.encode()))
    key = jax.random.fold_in(jax.random.key(cell.seed), stream)
    batch = (np.asarray(cell.images[rows]), cell.labels[rows].astype(np.int32), cell.ids[rows])
    return sweep.share(execution, (key, *batch, numbers))


def _labels(cell: Spec, start: int) -> np.ndarray:
    return np.asarray(cell.labels)[padded_rows(start, len(cell.ids))]


def _by_batches(
    answers: Callable[[int], list[Any]],
    kept: Callable[[int, Any], dict[str, np.ndarray]],
    images: int,
    advance: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """What is `kept` of every round's answers, rounds under and batches behind one another.

    A batch is asked for before the one before it is waited for: two are in flight and no more.
    """
    by_batch, flight = [], []

    def land(start: int, asked: list[Any]) -> None:
        rounds = [kept(start, answer) for answer in asked]
        by_batch.append({name: np.concatenate([r[name] for r in rounds]) for name in rounds[0]})
        advance(min(BATCH, images - start))
        heap.HOLES.close()

    for start in range(0, images, BATCH):
        flight.append((start, answers(start)))
        if len(flight) > 1:
            land(*flight.pop(0))
    land(*flight.pop())
    names = by_batch[0]
    return {name: np.concatenate([b[name] for b in by_batch], 1)[:, :images] for name in names}
