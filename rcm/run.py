"""Runs the stages of a plan: rounds of lanes, checkpoints, resume."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rcm import config, history, rounds, sweep
from rcm.backend import environment, fitted, hardware, source_hash
from rcm.calibrate import fastest
from rcm.compress import size
from rcm.members import Members, settled
from rcm.plan import Job, Plan, Stage
from rcm.progress import Display
from rcm.records import Damaged, member_label
from rcm.rounds import Pool
from rcm.store import Store
from rcm.sweep import Execution
from rcm.train import fit
from rcm.train.step import TrainState


class Runner:
    """Brings every job of a plan into the store."""

    def __init__(self, plan: Plan, store: Store, choice: Execution, fit: bool, display: Display):
        """choice: how to run; fit: with no more lanes than the plan's populations fill."""
        self.plan, self.store, self.display = plan, store, display
        self.use(choice, fit)
        self.environment = environment()
        self.source = source_hash()
        self.members = Members(plan, store)
        self._damaged: set[str] = set()

    def use(self, choice: Execution, fit: bool) -> None:
        """Run the rounds to come with this choice. Only the choice outlives a plan: a larger one
        fits it anew."""
        self.choice = choice
        self.execution = fitted(choice, self.plan.largest) if fit else choice

    # training

    def run(self) -> None:
        """Run stages until every job is finished; stages held by another process are waited for."""
        self._announce()
        while True:
            done = self.store.index()
            todo = [s for s in self.plan.stages if any(j.fingerprint not in done for j in s.jobs)]
            if not todo:
                return
            needs = {s.key: {needed for j in s.jobs for needed in j.needs} for s in todo}
            ready = [s for s in todo if needs[s.key] <= done.keys()]
            if not any(self._try_stage(stage, wait=False) for stage in ready):
                self.display.say(f"Waiting for another process that runs {ready[0].label}.")
                self._try_stage(ready[0], wait=True)

    def calibrate(self) -> None:
        """Choose the strategy for what is left: that of earlier rounds of this plan, so that an
        interrupted study ends as an uninterrupted one, or else the fastest by measurement."""
        recorded = self._recorded_choice()
        if recorded:
            self.use(recorded, fit=True)
            return
        if self.members.feed:  # what can be measured is the engine, not the host's stream
            return
        job, images = next(iter(self.plan.jobs.values())), self.plan.dataset.train.images
        pool = Pool(np.asarray(images), np.asarray(self.plan.labels))
        self.display.say("Measuring which strategy is fastest here (once per machine).")
        lane, members = self.members.lane(job), self.plan.largest
        self.use(fastest(job.program, self.choice, lane, pool, members), fit=True)
        self.display.say(f"Strategy {self.execution.strategy}, {self.execution.lanes} lanes.")

    def _recorded_choice(self) -> Execution | None:
        """How rounds of this plan were chosen to run in this environment, begun or finished."""
        index = self.store.index()
        chunks = {index[job].chunk for job in self.plan.jobs if job in index}
        records = [self.store.record(chunk) for chunk in sorted(chunks)]
        for record in [*records, *self.store.unfinished().values()]:
            ours = set(record["members"]) & self.plan.jobs.keys()
            if ours and record["environment"] == self.environment:
                return Execution(*record["choice"])
        return None

    def _try_stage(self, stage: Stage, wait: bool) -> bool:
        with self.store.lock(stage.key, wait) as held:
            if held:
                try:
                    self._run_stage(stage)
                except Damaged as error:
                    self.make_again(error)
            return held

    def make_again(self, error: Damaged) -> None:
        """Announce that something is made again; ValueError if it already was."""
        if str(error) in self._damaged:
            raise ValueError(
                f"{error}, although it was made again: the workdir does not give back what is "
                "written to it; choose another with --workdir."
            ) from error
        self._damaged.add(str(error))
        self.display.say(f"{error}; it is made again.")

    def _announce(self) -> None:
        index, say = self.store.index(), self.display.say
        finished = [index[job] for job in self.plan.jobs if job in index]
        chunks = {place.chunk for place in finished}
        others = sum(self.store.record(chunk)["source"] != self.source for chunk in chunks)
        if finished:
            say(f"{len(finished)} of {len(self.plan.jobs)} member-stages are already finished.")
        if others:
            say(
                f"{others} finished rounds were made by another version of rcm's source; "
                "choose a new --workdir to train them again."
            )
        asked = self.plan.study.data.feed
        if self.members.feed and asked == "device" and len(finished) < len(self.plan.jobs):
            megabytes = self.plan.dataset.train.images.nbytes / 1e6
            say(f"{megabytes:,.0f} MB of training images would fill a device: they are streamed.")

    def _run_stage(self, stage: Stage) -> None:
        done = self.store.index()
        pending = {j.fingerprint: j for j in stage.jobs if j.fingerprint not in done}
        if not pending:
            return
        total = len(pending) * max(stage.first.steps, 1)
        title = f"{stage.label} ({len(pending)} members, {stage.first.steps:,} steps)"
        self.display.start(title, total, "member-steps")
        for chunk, record in self.store.unfinished().items():
            if record.get("stage") != stage.key:
                continue
            execution = Execution(*record["execution"])
            if set(record["members"]) <= pending.keys() and self._repeatable(record, execution):
                jobs = [pending.pop(fingerprint) for fingerprint in record["members"]]
                self._run_round(chunk, jobs, execution)
        execution = rounds.calls_per_stage(self.execution, stage.first.steps)
        jobs = list(pending.values())
        for start in range(0, len(jobs), execution.lanes):
            members = jobs[start : start + execution.lanes]
            self._run_round(self._start_round(stage, members, execution), members, execution)
        self.display.finish()

    def _start_round(self, stage: Stage, jobs: Sequence[Job], execution: Execution) -> str:
        members = [job.fingerprint for job in jobs]
        chunk = config.fingerprint(members)
        record = {
            "stage": stage.key,
            "members": members,
            "labels": [member_label(job.label, job.ratio, job.seed) for job in jobs],
            "choice": list(self.choice),
            "execution": list(execution),
            "environment": self.environment,
            "hardware": hardware(),
            "source": self.source,
        }
        self.store.start_chunk(chunk, record)
        return chunk

    def _repeatable(self, record: dict, execution: Execution) -> bool:
        """Whether an interrupted round can go on bit by bit; says so where it cannot."""
        same = record["environment"] == self.environment
        if same and record["source"] == self.source and execution.devices <= jax.device_count():
            return True
        self.display.say(
            f"The interrupted round of {record['labels'][0]} was begun on another machine, version "
            "or device count; it starts again."
        )
        return False

    def _run_round(self, chunk: str, jobs: list[Job], execution: Execution) -> None:
        program, started = jobs[0].program, time.monotonic()
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
            checkpoint = _Checkpoints(self, chunk, jobs, step, started, kept)
            feed = self.members.feed
            pool = self.members.pool(execution) if feed is None else None
            arguments = (program, execution, pool, lanes, state, step, checkpoint, feed)
            state = rounds.run_round(*arguments)
            self.display.advance((jobs[0].steps - checkpoint.step) * len(jobs))
        else:
            self.display.advance(len(jobs))
        more = {"seconds": time.monotonic() - started, "history": history.plain(kept)}
        self._finish_round(chunk, jobs, execution, state, more)

    def _finish_round(
        self, chunk: str, jobs: list[Job], execution: Execution, state: TrainState, more: dict
    ) -> None:
        """Check every invariant, weigh every member, store the states; more: notes of the round."""
        members = [settled(member) for member in sweep.unstack(state, len(jobs))]
        program, parts = jobs[0].program, fit.parts_of(jobs[0].program)
        ledgers = []
        for job, member, seen in zip(
            jobs, members, sweep.effective(program, execution, members), strict=True
        ):
            if not member.alive:  # its numbers mean nothing
                ledgers.append(None)
                continue
            broken = parts.chain.check(seen, member.compression)
            if broken:
                raise RuntimeError(
                    f"{job.label} (ratio {job.ratio}, seed {job.seed}) broke an invariant of its "
                    f"compression: {'; '.join(broken[:3])}."
                )
            chain = (member.compression, program.techniques, parts.model)
            ledgers.append(size.stored_bytes(seen, *chain))
        notes = {
            **more,
            "alive": [bool(member.alive) for member in members],
            "bytes": [ledger.deflated if ledger else 0 for ledger in ledgers],
            "sizes": [ledger.counted(program.image) if ledger else {} for ledger in ledgers],
        }
        self.store.finish_chunk(chunk, sweep.stack(members), notes)


class _Checkpoints:
    """After every call of a round: count progress, keep what its training looks like, and save when
    enough work is at risk."""

    def __init__(
        self,
        runner: Runner,
        chunk: str,
        jobs: Sequence[Job],
        step: int,
        started: float,
        kept: history.History,
    ):
        self.runner, self.chunk, self.step = runner, chunk, step
        self.members, self.steps = len(jobs), jobs[0].steps
        self.started, self.kept = started, kept
        self.told = step  # of the metrics so far, which come later than the steps
        self.last = time.monotonic()

    def __call__(self, step: int, state: TrainState, metrics: Any) -> None:
        runner = self.runner
        loss, accuracy = float(np.mean(metrics.loss)), float(np.mean(metrics.accuracy))
        runner.display.advance(
            (step - self.step) * self.members, f"loss {loss:.3f}  accuracy {accuracy:.1%}"
        )
        history.add(self.kept, self.steps, self.told, metrics.loss, metrics.accuracy)
        self.told += metrics.loss.shape[1]
        self.step = step
        at_risk = time.monotonic() - self.last > runner.plan.study.checkpoint_seconds
        if at_risk and step < self.steps:
            seconds = time.monotonic() - self.started
            told = (seconds, history.plain(self.kept))
            runner.store.save_progress(self.chunk, step, state, *told)
            self.last = time.monotonic()
