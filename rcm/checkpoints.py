"""What happens after every call of a round: progress, the history of its training, checkpoints."""

import collections
import time
from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np

from rcm import history, leaving, rounds
from rcm.plan import Job, Plan
from rcm.progress import Display
from rcm.store import Store
from rcm.train.step import Metrics, TrainState
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

    def __call__(self, step: int, state: TrainState, flight: collections.deque[Metrics]) -> None:
        """step: those done; flight: metrics that are not told yet, of the last calls."""
        self._tell(step, flight, 0 if step == self.steps else rounds.AHEAD)
        at_risk = time.monotonic() - self.last > self.keeper.plan.study.checkpoint_seconds
        if leaving.asked() or (at_risk and step < self.steps):
            self._tell(step, flight, 0)  # what a checkpoint leaves out would be missing for good
            self._save(step, state)
            if leaving.asked():
                self.keeper.writer.finish()
                raise leaving.Preempted

    def _tell(self, step: int, flight: collections.deque[Metrics], left: int) -> None:
        """Wait for all metrics but the last `left` and show them."""
        remark = ""
        while len(flight) > left:
            metrics = jax.tree.map(np.asarray, flight.popleft())
            loss, accuracy = float(np.mean(metrics.loss)), float(np.mean(metrics.accuracy))
            remark = f"loss {loss:.3f}  accuracy {accuracy:.1%}"
            history.add(self.kept, self.steps, self.told, metrics.loss, metrics.accuracy)
            self.told += metrics.loss.shape[1]
        if remark:
            self.keeper.display.advance((step - self.step) * self.members, remark)
            self.step = step

    def _save(self, step: int, state: TrainState) -> None:
        own = jax.tree.map(np.array, state)  # the next call takes the states' memory
        told = (time.monotonic() - self.started, history.exact(self.kept))
        self.keeper.writer.write(self.keeper.store.save_progress, self.chunk, step, own, *told)
        self.last = time.monotonic()
