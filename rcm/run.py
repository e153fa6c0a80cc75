"""Runs the stages of a plan: which rounds are left, in which order, and what to do with trouble."""

import collections
import contextlib
import time
from collections.abc import Sequence

import jax
import numpy as np

from rcm import config, programs, rounds
from rcm.backend import environment, fitted, hardware, host_memory, source_hash
from rcm.calibrate import fastest
from rcm.estimate import here
from rcm.exhausted import fits, halved
from rcm.hosts import Hosts
from rcm.members import Members
from rcm.plan import Job, Plan, Stage
from rcm.progress import Display
from rcm.records import Damaged, member_label
from rcm.rounds import Pool
from rcm.schedule import Round, longest_first, round_of, round_seconds, shares, split
from rcm.store import LATE_SECONDS, Store
from rcm.sweep import Execution
from rcm.training import Training
from rcm.writing import Writer


class Runner:
    """Brings every job of a plan into the store."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        choice: Execution,
        fit: bool,
        display: Display,
        hosts: Hosts | None = None,
    ):
        """choice: how to run; fit: with no more lanes than the plan's populations fill; hosts: who
        shares the work, none but this process if not given."""
        self.plan, self.store, self.display = plan, store, display
        self.hosts = hosts or Hosts()
        self.use(choice, fit)
        self.environment = environment()
        self.source = source_hash()
        self.members, self.writer = Members(plan, store), Writer()
        self.training = Training(self.members, self.writer, display)
        self._damaged: set[str] = set()
        self._trained = 0.0  # seconds

    def use(self, choice: Execution, fit: bool) -> None:
        """Run the rounds to come with this choice. Only the choice outlives a plan: a larger one
        fits it anew."""
        self.choice = choice
        self.execution = fitted(choice, self.plan.largest) if fit else choice

    # training

    def run(self) -> None:
        """Run stages until every job is finished; stages held by another run are waited for."""
        came = time.monotonic()
        try:
            self._run()
        finally:
            self._trained += time.monotonic() - came

    @property
    def idle(self) -> float:
        """The share of the time of `run` in which this process's devices had no member: rounds that
        are not full, and what lies between rounds; 0 if nothing was trained."""
        return 1 - self.training.filled / self._trained if self.training.filled else 0.0

    def _run(self) -> None:
        self._announce()
        while True:
            done = self._finished()
            todo = [s for s in self.plan.stages if any(j.fingerprint not in done for j in s.jobs)]
            if not todo:
                self._clear()
                return
            needs = {s.key: {needed for j in s.jobs for needed in j.needs} for s in todo}
            ready = longest_first([s for s in todo if needs[s.key] <= done], self.execution)
            if self.hosts.count > 1:
                self._run_wave(ready)
            elif not any(self._try_stage(stage, wait=False) for stage in ready):
                self.display.say(f"Waiting for another process that runs {ready[0].label}.")
                self._try_stage(ready[0], wait=True)

    def _finished(self) -> set[str]:
        """The finished member-stages, as the leading process sees them and all others do, too."""
        own = self.store.index().keys()
        done = set(self.hosts.agree(sorted(own)))
        deadline = time.monotonic() + LATE_SECONDS
        while not done <= self.store.index().keys():  # a network's file system shows files late
            config.require(
                time.monotonic() < deadline,
                f"{self.store.root} of process {self.hosts.index} lacks rounds that process 0 sees "
                "finished: give all processes the same --workdir on a file system they share.",
            )
            time.sleep(0.2)
        return done

    def _clear(self) -> None:
        """Remove rounds that were interrupted and whose members others have finished since: on
        another number of devices members are run together otherwise."""
        done = self.store.index().keys()
        for chunk, record in self.store.unfinished().items() if self.hosts.leads else ():
            if done >= set(record["members"]):
                with self.store.lock(record["stage"], wait=False) as free:
                    if free:
                        self.store.abandon(chunk)

    def calibrate(self) -> None:
        """Choose the strategy for what is left: that of earlier rounds of this plan, so that an
        interrupted study ends as an uninterrupted one, or else the fastest by measurement. The
        leading process chooses for all."""
        chosen = self._chosen() if self.hosts.leads else None
        chosen = self.hosts.agree(chosen and list(chosen))
        if chosen:
            self.use(Execution(*chosen), fit=True)

    def _chosen(self) -> Execution | None:
        recorded = self._recorded_choice()
        if recorded or self.members.feed:  # of a host's stream nothing of the engine is measured
            return recorded
        job, images = next(iter(self.plan.jobs.values())), self.plan.dataset.train.images
        pool = Pool(np.asarray(images), np.asarray(self.plan.labels))
        self.display.say("Measuring which strategy is fastest here (once per machine).")
        lane, members = self.members.lane(job), self.plan.largest
        found = fastest(job.program, self.choice, lane, pool, members)
        fit = fitted(found, members)
        self.display.say(f"Strategy {fit.strategy}, {fit.lanes} lanes.")
        return found

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
                programs.make_room(host_memory() / self.hosts.beside)
                todo = self._rounds(stage)
                try:
                    self._run_rounds(stage, todo, todo)
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

    def _run_wave(self, stages: Sequence[Stage]) -> None:
        """Share the rounds of stages, which need nothing of each other, among all processes; return
        when all have done theirs. The leading process holds the stages' locks for all."""
        with contextlib.ExitStack() as held:
            for stage in stages if self.hosts.leads else ():
                held.enter_context(self.store.lock(stage.key))
            listed = [self._rounds(stage) for stage in stages] if self.hosts.leads else []
            todo = self.hosts.agree([[list(one) for one in found] for found in listed])
            tasks = [
                (stage, round_of(*one))
                for stage, found in zip(stages, todo, strict=True)
                for one in found
            ]
            costs = [round_seconds(stage.first, here(one.execution)) for stage, one in tasks]
            own = shares(costs, self.hosts.count)[self.hosts.index]
            for stage in stages:
                mine = [tasks[place][1] for place in own if tasks[place][0] is stage]
                try:
                    self._run_rounds(stage, mine, [one for other, one in tasks if other is stage])
                except Damaged as error:
                    self.make_again(error)
            self.hosts.gather()

    def _rounds(self, stage: Stage) -> list[Round]:
        """What is left of a stage: rounds that were interrupted, and new ones."""
        done = self.store.index()
        pending = {j.fingerprint: j for j in stage.jobs if j.fingerprint not in done}
        found = []
        for record in self.store.unfinished().values() if pending else ():
            execution = Execution(*record["execution"])
            if record.get("stage") != stage.key or not set(record["members"]) <= pending.keys():
                continue
            if self._repeatable(record, execution):
                found.append(Round(record["members"], execution, begun=True))
                pending = {k: job for k, job in pending.items() if k not in record["members"]}
        execution = rounds.calls_per_stage(self.execution, stage.first.steps)
        return found + split(list(pending), execution)

    def _run_rounds(self, stage: Stage, own: Sequence[Round], of: Sequence[Round]) -> None:
        """Run this process's own rounds of a stage; `of`: those of all processes, of which the
        leading one tells even where it has none."""
        members = sum(len(one.members) for one in of)
        if not (of if self.hosts.leads else own):
            return
        steps = stage.first.steps
        title = f"{stage.label} ({members} members, {steps:,} steps)"
        self.display.start(title, members * max(steps, 1), "member-steps")
        left = collections.deque(own)
        with self.writer.finishing():
            while left:
                if self._fits(stage, left[0]):
                    left.popleft()
                else:  # smaller ones, once nothing holds the memory of the large one
                    left = collections.deque(self._smaller(left))
        self.display.finish()

    def _fits(self, stage: Stage, one: Round) -> bool:
        """Run a round; False if a device has too little memory for it."""
        jobs = [self.plan.jobs[fingerprint] for fingerprint in one.members]
        chunk = config.fingerprint(one.members)
        if not one.begun:
            self._start_round(chunk, stage, jobs, one.execution)
        return fits(self.training.run, chunk, jobs, one.execution)

    def _smaller(self, left: Sequence[Round]) -> list[Round]:
        """What is left of a stage with half as many lanes, which all later stages get, too. Raises
        ValueError where there are no fewer."""
        self.writer.finish()  # of what is going to be abandoned
        one = left[0]
        label = self.plan.jobs[one.members[0]].label
        fewer = halved(one.execution, label, self.display.say)
        lanes = {"lanes": fewer.lanes, "devices": fewer.devices}
        self.use(self.execution._replace(**lanes), fit=False)
        found = []
        for one in left:
            if one.execution.lanes <= fewer.lanes:
                found.append(one)
                continue
            self.store.abandon(config.fingerprint(one.members))
            found += split(one.members, one.execution._replace(**lanes))
        return found

    def _start_round(
        self, chunk: str, stage: Stage, jobs: Sequence[Job], execution: Execution
    ) -> None:
        record = {
            "stage": stage.key,
            "members": [job.fingerprint for job in jobs],
            "labels": [member_label(job.label, job.ratio, job.seed) for job in jobs],
            "choice": list(self.choice),
            "execution": list(execution),
            "environment": self.environment,
            "hardware": hardware(),
            "process": self.hosts.index,
            "source": self.source,
        }
        self.store.start_chunk(chunk, record)

    def _repeatable(self, record: dict, execution: Execution) -> bool:
        """Whether an interrupted round can go on bit by bit; says so where it cannot."""
        same = record["environment"] == self.environment
        if (
            same
            and record["source"] == self.source
            and execution.devices <= jax.local_device_count()
        ):
            return True
        self.display.say(
            f"The interrupted round of {record['labels'][0]} was begun on another machine, version "
            "or device count; it starts again."
        )
        return False
