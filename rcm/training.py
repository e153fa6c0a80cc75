"""Trains one round: from its last checkpoint, if it has one, to members in the store."""

import time

import jax

from rcm import history, leaving, rounds, sweep
from rcm.checkpoints import Checkpoints
from rcm.members import Members, settled, weighed
from rcm.plan import Job
from rcm.progress import Display
from rcm.sweep import Execution
from rcm.train.step import TrainState
from rcm.writing import Writer


class Training:
    """Rounds of a plan's members, stored by a writer while the next ones train."""

    def __init__(self, members: Members, writer: Writer, display: Display):
        self.members, self.writer, self.display = members, writer, display
        self.plan, self.store = members.plan, members.store
        self.filled = 0.0  # seconds for which all of this process's devices would have had members

    def run(self, chunk: str, jobs: list[Job], execution: Execution) -> None:
        """Train a round from its last checkpoint or its start, and have it stored."""
        program, started, came = jobs[0].program, time.monotonic(), time.monotonic()
        lanes = [self.members.lane(job) for job in jobs]
        state, step = rounds.begin_round(program, execution, lanes), 0
        resumed = self.store.load_progress(chunk, state)
        if resumed:
            step, state = resumed.step, resumed.tree
            started -= resumed.seconds
            self.display.say(f"Resuming {jobs[0].label} at step {step:,}.")
            self.display.advance(step * len(jobs))
        kept = history.start(len(jobs), jobs[0].steps, resumed.history if resumed else None)
        if jobs[0].steps:
            checkpoint = Checkpoints(self, chunk, jobs, step, started, kept)
            feed = self.members.feed
            pool = self.members.pool(execution) if feed is None else None
            arguments = (program, execution, pool, lanes, state, step, checkpoint, feed)
            with leaving.saving():
                state = rounds.run_round(*arguments)
            self.display.advance((jobs[0].steps - checkpoint.step) * len(jobs))
        else:
            self.display.advance(len(jobs))
        share = len(jobs) / execution.lanes * execution.devices / jax.local_device_count()
        self.filled += share * (time.monotonic() - came)
        more = {"seconds": time.monotonic() - started, "history": history.plain(kept)}
        self._finish(chunk, jobs, execution, state, more)

    def _finish(
        self, chunk: str, jobs: list[Job], execution: Execution, state: TrainState, more: dict
    ) -> None:
        """Have the states checked, weighed and stored while the next round trains; more: notes of
        the round."""
        members = [settled(member) for member in sweep.unstack(state, len(jobs))]
        seen = sweep.effective(jobs[0].program, execution, members)
        self.writer.write(self._store, chunk, jobs, members, seen, more)

    def _store(
        self, chunk: str, jobs: list[Job], members: list[TrainState], seen: list, more: dict
    ) -> None:
        notes = weighed(jobs, members, seen)
        self.store.finish_chunk(chunk, sweep.stack(members), {**more, **notes})
