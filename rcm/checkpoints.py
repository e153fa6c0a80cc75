"""What happens after every call of a round: progress, the history of its training, checkpoints."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from rcm import history, leaving
from rcm.plan import Job, Plan
from rcm.progress import Display
from rcm.store import Store
from rcm.train.step import TrainState
from rcm.writing import Writer


class Keeper(Protocol):
    """Whoever runs rounds."""

    plan: Plan
    store: Store
    display: Display
    writer: Writer


class Checkpoints:
    """After every call of a round: count progress, keep what its training looks like, and save when
    enough work is at risk, or the process must leave."""

    def __init__(
        self,
        keeper: Keeper,
        chunk: str,
        jobs: Sequence[Job],
        step: int,
        started: float,
        kept: history.History,
    ):
        self.keeper, self.chunk, self.step = keeper, chunk, step
        self.members, self.steps = len(jobs), jobs[0].steps
        self.started, self.kept = started, kept
        self.told = step  # of the metrics so far, which come later than the steps
        self.last = time.monotonic()

    def __call__(self, step: int, state: TrainState, metrics: Any) -> None:
        keeper = self.keeper
        loss, accuracy = float(np.mean(metrics.loss)), float(np.mean(metrics.accuracy))
        keeper.display.advance(
            (step - self.step) * self.members, f"loss {loss:.3f}  accuracy {accuracy:.1%}"
        )
        history.add(self.kept, self.steps, self.told, metrics.loss, metrics.accuracy)
        self.told += metrics.loss.shape[1]
        self.step = step
        at_risk = time.monotonic() - self.last > keeper.plan.study.checkpoint_seconds
        if (at_risk or leaving.asked()) and step < self.steps:
            seconds = time.monotonic() - self.started
            own = jax.tree.map(np.array, state)  # the next call takes the states' memory
            told = (seconds, history.plain(self.kept))
            keeper.writer.write(keeper.store.save_progress, self.chunk, step, own, *told)
            self.last = time.monotonic()
            if leaving.asked():
                keeper.writer.finish()
                raise leaving.Preempted
