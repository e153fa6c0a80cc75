"""Makes every prediction that is missing, cell by cell, within the memory that is allowed.

Members are tested in groups of stored chunks that fit; a cell's predictions of a chunk are one
file, written as soon as they are made, so that an interrupted evaluation goes on where it was.
"""

import collections
import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rcm import config, evaluate, memory, programs, shifted, sweep
from rcm.backend import host_memory
from rcm.cells import MADE_BY, AttackSpec, Spec, is_made_here, is_tested, shift_source
from rcm.estimate import forward_seconds, here
from rcm.exhausted import fits, halved
from rcm.hosts import Hosts
from rcm.members import Members
from rcm.plan import Job, Plan, Stage
from rcm.progress import Display
from rcm.records import ratio_and_seed
from rcm.schedule import shares
from rcm.store import Store
from rcm.sweep import Execution
from rcm.train.fit import Program
from rcm.train.step import TrainState
from rcm.writing import WAITING, Writer

FIELDS = 7  # bytes of a stored answer; a clean one also has its logits, two bytes a class


class Tester:
    """Brings every prediction of the jobs that end a pipeline into the store."""

    __test__ = False  # pytest: this is no test

    def __init__(
        self,
        plan: Plan,
        store: Store,
        execution: Execution,
        display: Display,
        memory: float,
        cache: Path,
        hosts: Hosts | None = None,
    ):
        """memory: bytes that states and answers may take at once. cache: a folder for shifted
        images, which is used if the study asks for it. hosts: the processes that share the work,
        none but this one if not given."""
        self.plan, self.store, self.display = plan, store, display
        self.execution, self.memory, self.cache = execution, memory, cache
        self.members, self.writer = Members(plan, store), Writer()
        self.hosts = hosts or Hosts()
        self._attacked: tuple[str, dict[str, TrainState]] = ("", {})  # of the last source

    def run(self, cells: Sequence[Spec]) -> None:
        """Predict every missing (chunk, cell); of several processes each those of its own chunks.

        Stages held by another run come last: what it has predicted by then is not missing.
        """
        ends = set(self.plan.ends.values())
        counted = [
            (stage, [j for j in stage.jobs if j.fingerprint in ends]) for stage in self.plan.stages
        ]
        todo = [(stage, jobs, self._tested(jobs, cells)) for stage, jobs in counted if jobs]
        own = self._own_chunks([jobs for _, jobs, _ in todo])
        for wait in (False, True):
            held_elsewhere = []
            for stage, jobs, shown in todo:
                with self._lock(stage, wait) as held:
                    if held:
                        self._test_stage(stage, jobs, shown, own)
                    else:
                        held_elsewhere.append((stage, jobs, shown))
            todo = held_elsewhere

    def require(
        self, cells: Sequence[Spec], exactly: bool = False, held: float = 0.0
    ) -> memory.Need | None:
        """What testing takes at most, None if that is certainly little and not asked for `exactly`.
        held: bytes that stay of training. Raises ValueError if it does not fit."""
        ends, most, lanes = set(self.plan.ends.values()), 0.0, self.execution.lanes
        for stage in self.plan.stages:  # which are tested one after the other
            tested = sum(job.fingerprint in ends for job in stage.jobs)
            each = self._require_round(stage, cells, min(tested, lanes))
            most = max(most, min(self.memory, each * padded(tested, lanes)))
        given = (self.plan, cells, self.members, self.execution)
        return memory.require_tests(*given, held + most, self.hosts.beside, exactly)

    def _require_round(self, stage: Stage, cells: Sequence[Spec], members: int) -> float:
        """Bytes of one member. Raises ValueError if so many, which are tested together, take more
        than is allowed."""
        template, jobs = self.members.template, self.plan.jobs
        sources = {cell.source for cell in cells if isinstance(cell, AttackSpec)} - {""}
        attacked = [template(jobs[end]) for at, end in self.plan.ends.items() if at[0] in sources]
        classes = len(self.plan.dataset.classes)
        each = member_bytes(template(stage.first), cells, classes, attacked)
        least = each * padded(members, self.execution.lanes)
        config.require(
            least <= self.memory,
            f"Testing {members} members of {stage.label} together takes {least / 2**30:,.2g} GiB "
            f"and --eval_memory allows {self.memory / 2**30:,.2g}: give "
            f"--eval_memory={math.ceil(least / 2**30 * 100) / 100:g} or, where nothing of it is "
            "trained yet, fewer --lanes.",
        )
        return each

    def _lock(self, stage: Stage, wait: bool) -> contextlib.AbstractContextManager[bool]:
        """A stage's lock; the processes of one run, whose chunks differ, need none."""
        if self.hosts.count > 1:
            return contextlib.nullcontext(True)
        return self.store.lock(stage.key, wait)

    def _own_chunks(self, tested: Sequence[Sequence[Job]]) -> set[str]:
        """The chunks that this process tests, of members of all stages that are tested."""
        index, machine = self.store.index(), here(self.execution)
        chunks, costs = [], []
        for jobs in tested:
            program = jobs[0].program
            image = forward_seconds(program.model, program.classes, program.image, machine.backend)
            members = collections.Counter(index[job.fingerprint].chunk for job in jobs)
            chunks += sorted(members)
            costs += [image * members[chunk] for chunk in sorted(members)]
        return {chunks[place] for place in shares(costs, self.hosts.count)[self.hosts.index]}

    def _tested(self, jobs: list[Job], cells: Sequence[Spec]) -> list[Spec]:
        """The cells that members of a stage answer, by the pipelines that end there."""
        own = {job.fingerprint for job in jobs}
        pipelines = {end[0] for end, fingerprint in self.plan.ends.items() if fingerprint in own}
        return [cell for cell in cells if any(is_tested(cell, name) for name in pipelines)]

    def _test_stage(
        self, stage: Stage, jobs: list[Job], cells: Sequence[Spec], own: set[str]
    ) -> None:
        programs.make_room(host_memory() / self.hosts.beside)
        index, title = self.store.index(), f"testing {stage.label}"
        chunks = sorted({index[job.fingerprint].chunk for job in jobs})
        left = {  # to all processes
            cell.key: [c for c in chunks if not self.store.has_predictions(c, cell.key)]
            for cell in cells
        }
        missing = {key: [chunk for chunk in found if chunk in own] for key, found in left.items()}
        told = left if self.hosts.leads else missing
        sizes = {
            chunk: len(self.store.record(chunk)["members"])
            for chunk in sorted({chunk for found in told.values() for chunk in found})
        }
        if not sizes:
            return
        needed = {chunk: size for chunk, size in sizes.items() if chunk in own}
        each = self._require_round(stage, cells, max(needed.values(), default=0))
        images = sum(len(c.ids) * sizes[chunk] for c in cells for chunk in told[c.key])
        self.display.start(title, images + self.hosts.posted(title), "images")
        with self.writer.finishing():
            for group in groups(needed, self.memory / each, self.execution.lanes):
                self._test_group(jobs[0], group, cells, missing)
        self.display.finish()

    def _test_group(
        self, job: Job, group: list[str], cells: Sequence[Spec], missing: Mapping[str, list[str]]
    ) -> None:
        """Chunks of members like this one, whose states are gone before those of the next are
        loaded."""
        states = {chunk: self.members.states(job, chunk) for chunk in group}
        for cell in cells:
            chosen = {c: states[c] for c in group if c in missing[cell.key]}
            while chosen and not fits(self._test_cell, job.program, chosen, cell):
                self.execution = halved(self.execution, job.label, self.display.say)

    def _test_cell(self, program: Any, states: dict[str, list[TrainState]], cell: Spec) -> None:
        members = [member for group in states.values() for member in group]
        given = (program, self.execution, self._rounds(members))

        def advance(images: int) -> None:
            self.display.advance(images * len(members))

        if self.plan.study.shift.cache:
            cell = shifted.with_images(cell, self.cache, self.plan.dataset.fingerprint)
        if isinstance(cell, AttackSpec):
            made = evaluate.attack_cell(*given, cell, advance, self._source(cell, states))
        else:
            made = evaluate.predict_cell(*given, cell, advance)
        first = 0
        for chunk, group in states.items():
            rows = slice(first, first + len(group))
            first += len(group)
            arrays = {name: array[rows] for name, array in made.items()}
            if is_made_here(cell):
                arrays[MADE_BY] = np.array(shift_source())
            self.writer.write(self.store.save_predictions, chunk, cell.key, arrays)

    def _rounds(self, members: list[TrainState]) -> list[Any]:
        lanes = self.execution.lanes
        return [
            sweep.place(self.execution, sweep.stack(sweep.pad(members[i : i + lanes], lanes)))
            for i in range(0, len(members), lanes)
        ]

    def _source(self, cell: AttackSpec, chunks: Iterable[str]) -> tuple[Program, list] | None:
        """Program and rounds of the members that are attacked in the place of those of the chunks,
        if a cell has such. For a member of another ratio or seed than the plan's it is any: a plan
        that has it attacks others in all, under another name."""
        if not cell.source:
            return None
        plan, index = self.plan, self.store.index()
        by_end = {end[1:]: job for end, job in plan.ends.items() if end[0] == cell.source}
        any_one = next(iter(by_end.values()))
        labels = [label for chunk in chunks for label in self.store.record(chunk)["labels"]]
        asked = [by_end.get(ratio_and_seed(label), any_one) for label in labels]
        held = self._attacked[1] if self._attacked[0] == cell.source else {}
        states = {name: held[name] for name in set(asked) & set(held)}  # and no others: bounded
        for chunk in sorted({index[name].chunk for name in set(asked) - set(states)}):
            members = self.members.states(plan.jobs[any_one], chunk)
            for name in set(asked) - set(states):
                if index[name].chunk == chunk:  # a copy, by which the others are forgotten
                    states[name] = jax.tree.map(np.copy, members[index[name].row])
        self._attacked = (cell.source, states)
        program = plan.jobs[any_one].program
        return program, self._rounds([states[name] for name in asked])


def member_bytes(
    template: Any, cells: Sequence[Spec], classes: int, attacked: Sequence[Any] = ()
) -> float:
    """Bytes that one member takes while it is tested: its state, here and on the device, that of
    the one which is `attacked` in its place, and its answers to the largest cell, which may still
    be in all hands of the writer while the next are made."""
    states = tree_bytes(template) + max(map(tree_bytes, attacked), default=0)
    answers = max(len(cell.ids) * (FIELDS + 2 * classes * cell.clean) for cell in cells)
    return 2.0 * states + (2 + WAITING) * answers


def tree_bytes(template: Any) -> int:
    """Bytes of a tree's leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(template))


def padded(members: int, lanes: int) -> int:
    """The lanes that so many members take, whose last round is filled up."""
    return -(-members // lanes) * lanes


def groups(sizes: Mapping[str, int], limit: float, lanes: int = 1) -> Iterator[list[str]]:
    """Chunks in their order, as many at a time as take no more than `limit` lanes, or one."""
    group, members = [], 0
    for chunk, size in sizes.items():
        if group and padded(members + size, lanes) > limit:
            yield group
            group, members = [], 0
        group.append(chunk)
        members += size
    if group:
        yield group
