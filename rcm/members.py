"""From jobs to lanes, and from the store back to members' states."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from rcm import config, rounds, sweep
from rcm.backend import image_memory
from rcm.compress import levels_of, size
from rcm.data import longtail, stream
from rcm.plan import Job, Plan
from rcm.records import Damaged, unflatten
from rcm.rounds import Lane, Pool
from rcm.store import Store
from rcm.sweep import Execution
from rcm.tails import Tail, steps_per_epoch
from rcm.train import fit
from rcm.train.losses import LossHyper, class_numbers
from rcm.train.optimizers import learning_rates
from rcm.train.step import Hyper, TrainState

ONE_LANE = Execution("loop", 1, 1, 1)


def stage_seed(job: Job) -> int:
    """Keys a stage's batches, augmentation and random starts: the same for all pipelines of a seed
    at this depth, so that they are paired."""
    return job.depth << 20 | job.seed


def begin_step(job: Job) -> int:
    """The step of a stage from which its class-balanced weights and sampling hold; below 0 where it
    lies before a rewound stage."""
    defer = job.recipe.defer if job.recipe else 0.0
    return round(defer * job.whole) - job.begin


def fresh_template(job: Job) -> TrainState:
    """Shapes of a newly initialised member of the job's program."""
    levels = levels_of(job.added, job.steps, np.ones(job.program.classes))
    make = partial(fit.fresh, job.program)
    return jax.eval_shape(make, np.uint32(0), levels)


class Members:
    """What the stages of a plan are made of: lanes to run, states that were stored, images."""

    def __init__(self, plan: Plan, store: Store):
        self.plan, self.store = plan, store
        self._templates: dict[tuple, TrainState] = {}
        self._pools: dict[int, Pool] = {}

    def lane(self, job: Job) -> Lane:
        """A job, ready to run. Raises Damaged if a job that it needs has to be made again."""
        teachers = [self.state(fingerprint) for fingerprint in job.teachers]
        early = self.state(job.early) if job.early else None
        return self._own(job)._replace(
            parent=self.state(job.parent) if job.parent else None,
            early=early.variables if early else None,
            teacher=self._seen(job.teachers[0], teachers) if teachers else None,
            alive=all(bool(state.alive) for state in (*teachers, *([early] if early else ()))),
        )

    def outline(self, job: Job) -> Lane:
        """`lane` with shapes in the place of other members, which need not have been trained."""
        jobs = self.plan.jobs
        parent, early = (
            self.template(jobs[name]) if name else None for name in (job.parent, job.early)
        )
        teachers = [
            jax.eval_shape(partial(fit.effective_variables, one.program), self.template(one))
            for one in map(jobs.__getitem__, job.teachers)
        ]
        return self._own(job)._replace(
            parent=parent, early=early and early.variables, teacher=tuple(teachers) or None
        )

    def _own(self, job: Job) -> Lane:
        """What a lane has of its own, without other members."""
        tail = self.plan.tails[job.ratio]
        recipe, distill = job.recipe or self.plan.study.fine_tune, job.distill
        kind = config.Model(*job.program.model).classifier
        loss = LossHyper(
            **class_numbers(recipe, tail.counts, begin_step(job), kind, distill),
            smoothing=np.float32(recipe.label_smoothing),
            mixing=np.float32(distill.mixing if distill else 0),
            temperature=np.float32(distill.temperature if distill else 1),
        )
        return Lane(
            seed=job.seed,
            stage_seed=stage_seed(job),
            table=tail.table,
            learning_rates=self._rates(job),
            hyper=Hyper(np.uint32(stage_seed(job)), np.float32(recipe.weight_decay), loss),
            levels=levels_of(job.added, job.steps, tail.counts),
            calibration=self._calibration(job),
            balance=self._balance(job, tail),
            weights=self._weights(job),
        )

    def _weights(self, job: Job) -> dict[str, np.ndarray] | None:
        """What a job begins from beside its own draws: dense members of the study's own model."""
        own = bool(config.Model(*job.program.model).pretrained) and not job.parent
        return self.plan.weights.arrays if self.plan.weights and own else None

    def _rates(self, job: Job) -> np.ndarray:
        if not job.steps or job.recipe is None:
            return np.zeros(0, np.float32)
        recipe = job.recipe
        return learning_rates(
            recipe.schedule,
            recipe.learning_rate,
            job.whole,
            steps_per_epoch(recipe, self.plan.tails[job.ratio]),
            recipe.warmup_epochs,
        )[job.begin : job.begin + job.steps]

    def _balance(self, job: Job, tail: Tail) -> longtail.Balance | None:
        if job.recipe is None or job.recipe.sampling == "instance":
            return None
        labels = np.asarray(self.plan.dataset.train.labels)[tail.table]
        return longtail.Balance(labels, max(begin_step(job), 0))

    def _calibration(self, job: Job) -> np.ndarray | None:
        """Images of the member's own training table for the quantizers that this stage adds."""
        count = max((getattr(t, "calibration_images", 0) for t in job.added), default=0)
        if not count:
            return None
        return self.calibration(job, count)

    def calibration(self, job: Job, count: int) -> np.ndarray:
        """The first `count` images uint8 [count, H, W, 3] of a stage's own training table."""
        table = self.plan.tails[job.ratio].table
        index = longtail.batch_indices(stage_seed(job), table, count, 0, 1)[0]
        return np.asarray(self.plan.dataset.train.images[index])

    def state(self, fingerprint: str) -> TrainState:
        """A finished member's state, without optimizer. Raises Damaged after setting it aside, or
        if that has been done already."""
        place = self.store.index().get(fingerprint)
        if place is None:
            raise Damaged(f"the member-stage {fingerprint} was set aside")
        return self.states(self.plan.jobs[fingerprint], place.chunk)[place.row]

    def states(self, job: Job, chunk: str) -> list[TrainState]:
        """All members of the chunk that `job` belongs to."""
        try:
            tree = unflatten(self.store.load_chunk(chunk), self.template(job))
        except Damaged as error:
            self.store.discard(chunk)
            raise Damaged(f"{error} and was set aside") from error
        return sweep.unstack(tree, len(self.store.record(chunk)["members"]))

    def _seen(self, fingerprint: str, states: list[TrainState]) -> tuple:
        """Effective variables of members like that of the job `fingerprint`."""
        return tuple(sweep.effective(self.plan.jobs[fingerprint].program, ONE_LANE, states))

    def template(self, job: Job) -> TrainState:
        """The tree structure of a job's stored state, found without computing anything."""
        key = (job.program, job.depth, bool(job.parent))
        if key not in self._templates:
            if not job.parent:
                made = fresh_template(job)
            else:
                parent = self.template(self.plan.jobs[job.parent])
                levels = levels_of(job.added, job.steps, self.plan.tails[job.ratio].counts)
                images = self._calibration(job)
                begin = partial(fit.begin, job.program)
                made = jax.eval_shape(begin, parent, np.uint32(0), levels, images)
            self._templates[key] = fit.settled(made)
        return self._templates[key]

    def pool(self, execution: Execution) -> Pool:
        """The training split on the devices of an execution; those of the last call keep it."""
        if execution.devices not in self._pools:
            self._pools.clear()
            images = np.asarray(self.plan.dataset.train.images)
            pool = Pool(images, np.asarray(self.plan.labels))
            self._pools[execution.devices] = sweep.share(execution, pool)
        return self._pools[execution.devices]

    @cached_property
    def feed(self) -> rounds.Feed | None:
        """The host's batches, or None where images live on the device.

        Images that would fill the device are streamed, too, which changes no result.
        """
        train = self.plan.dataset.train
        if self.plan.study.data.feed == "device" and train.images.nbytes <= image_memory():
            return None
        return partial(stream.batches, train.images, self.plan.labels)


def settled(member: TrainState) -> TrainState:
    """A finished member: without optimizer, and not alive if its last update left the numbers."""
    leaves = jax.tree.leaves(member.variables)
    alive = np.bool_(member.alive and all(np.isfinite(leaf).all() for leaf in leaves))
    return fit.settled(member)._replace(alive=alive)


def weighed(jobs: Sequence[Job], members: Sequence[TrainState], seen: Sequence[Any]) -> dict:
    """What is noted of a round's finished members: who is alive, stored bytes, sizes.

    seen: their effective variables. Raises RuntimeError where one broke an invariant of its
    compression; a diverged one, whose numbers mean nothing, cannot.
    """
    program, parts = jobs[0].program, fit.parts_of(jobs[0].program)
    ledgers = []
    for job, member, variables in zip(jobs, members, seen, strict=True):
        if not member.alive:
            ledgers.append(None)
            continue
        broken = parts.chain.check(variables, member.compression)
        if broken:
            raise RuntimeError(
                f"{job.label} (ratio {job.ratio}, seed {job.seed}) broke an invariant of its "
                f"compression: {'; '.join(broken[:3])}."
            )
        chain = (member.compression, program.techniques, parts.model)
        ledgers.append(size.stored_bytes(variables, *chain))
    return {
        "alive": [bool(member.alive) for member in members],
        "bytes": [ledger.deflated if ledger else 0 for ledger in ledgers],
        "sizes": [ledger.counted(program.image) if ledger else {} for ledger in ledgers],
    }
