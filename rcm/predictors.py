"""What may foretell which classes compression harms, measured on every dense member's training
images and stored beside its predictions."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rcm import sweep
from rcm.analysis.metrics import CLEAN, MemberInfo, result_row
from rcm.config import DENSE
from rcm.data.longtail import tail_table
from rcm.exhausted import fits, halved
from rcm.hosts import Hosts
from rcm.members import Members
from rcm.plan import Job, Plan
from rcm.progress import Display
from rcm.records import Damaged, Place
from rcm.store import Store
from rcm.sweep import Execution
from rcm.train.curvature import TURNS, Curvature

FIELD = "predictor_images"  # of a study: how many images of a class


def dense_jobs(plan: Plan) -> list[Job]:
    """The study's own dense members, if their predictors are asked for."""
    if not plan.study.predictor_images:
        return []
    return [plan.jobs[job] for (pipeline, _, _), job in plan.ends.items() if pipeline == DENSE]


def measure(
    plan: Plan, store: Store, devices: int, display: Display, hosts: Hosts | None = None
) -> None:
    """Bring what is missing into the store: a file for each member, of several processes each those
    of its own members.

    Members run one after the other on each device, because second derivatives of several at once
    would be grouped convolutions, which are slow on CPU.
    """
    execution = Execution("loop", devices, devices, 1)
    members = Members(plan, store)
    hosts = hosts or Hosts()
    dense, index, title = dense_jobs(plan), store.index(), "predictors of harm"
    left = [job for job in dense if not store.has_predictions(*_place(plan, index, job))]
    own = {job.fingerprint for job in dense[hosts.index :: hosts.count]}
    jobs = [job for job in left if job.fingerprint in own]
    if not (left if hosts.leads else jobs):
        return
    classes = len(left if hosts.leads else jobs) * len(plan.dataset.classes)
    display.start(title, classes + hosts.posted(title), "classes")

    def save(group: list[Job]) -> None:
        for job, arrays in zip(group, _of_round(plan, members, group, execution), strict=True):
            store.save_predictions(*_place(plan, index, job), arrays)

    while jobs:
        group = jobs[: execution.devices]
        if not fits(save, group):
            execution = halved(execution, "the curvature of a member", display.say, FIELD)
            continue
        display.advance(len(group) * len(plan.dataset.classes))
        jobs = jobs[len(group) :]
    display.finish()


def _of_round(
    plan: Plan, members: Members, jobs: list[Job], execution: Execution
) -> list[dict[str, np.ndarray]]:
    """The fields of `Curvature` float32 [C] of each member."""
    lanes = sweep.pad(jobs, execution.lanes)
    states = sweep.place(execution, sweep.stack([members.state(j.fingerprint) for j in lanes]))
    start, turn = sweep.compiled_curvature(jobs[0].program, execution)
    by_class = []
    for label in range(len(plan.dataset.classes)):
        shown = sweep.stack([images_of(plan, job.ratio, label) for job in lanes])
        images, weights = sweep.place(execution, shown)
        vectors = start(states)
        for _ in range(TURNS - 1):
            _, vectors = turn(np.int32(label), images, weights, states, vectors)
        made, _ = turn(np.int32(label), images, weights, states, vectors)
        by_class.append(jax.tree.map(np.asarray, made))
    return [
        {name: np.array([getattr(one, name)[i] for one in by_class]) for name in Curvature._fields}
        for i in range(len(jobs))
    ]


def images_of(plan: Plan, ratio: int, label: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, H, W, 3], float32 [n]): training images of a class and 1 for each, those of a
    larger ratio among those of a smaller one; where a tail has fewer than
    `Study.predictor_images`, repeated ones with 0."""
    train, tail, most = plan.dataset.train, plan.tails[ratio], plan.study.predictor_images
    counts = np.where(np.arange(len(tail.counts)) == label, np.minimum(tail.counts, most), 0)
    chosen = tail_table(train.labels, tail.table, counts, plan.study.data.data_seed)
    weights = np.arange(most) < len(chosen)
    return np.asarray(train.images[np.resize(chosen, most)]), weights.astype(np.float32)


def predictor_rows(
    plan: Plan, store: Store, infos: Mapping[Any, MemberInfo], discard: bool = False
) -> list[dict]:
    """Rows of results, `class_margin`, `class_gradient`, `class_eigenvalue` and `class_residual` by
    class, of dense members that did not diverge. Raises Damaged if a file is missing or broken;
    with `discard` it is removed."""
    known = {info.fingerprint: info for info in infos.values() if info.pipeline == DENSE}
    rows, index = [], store.index()
    for job in dense_jobs(plan):
        info, place = known[job.fingerprint], _place(plan, index, job)
        try:
            arrays = _load(store, place, len(plan.dataset.classes))
        except Damaged:
            if discard:
                store.drop_predictions(*place)
            raise
        rows += [
            result_row(info, CLEAN, 0, f"class_{name}", float(value), str(c))
            for name, values in arrays.items()
            for c, value in enumerate(values)
            if info.status == "ok" and np.isfinite(value)
        ]
    return rows


def file_name(plan: Plan, job: Job) -> str:
    """What a member's file is called beside its chunk's predictions."""
    return f"curvature{TURNS}-n{plan.study.predictor_images}-{job.fingerprint}"


def _place(plan: Plan, index: Mapping[str, Place], job: Job) -> tuple[str, str]:
    """Chunk and name of a member's file."""
    return index[job.fingerprint].chunk, file_name(plan, job)


def _load(store: Store, place: tuple[str, str], classes: int) -> dict[str, np.ndarray]:
    arrays = store.load_predictions(*place)
    if {name: array.shape for name, array in arrays.items()} != dict.fromkeys(
        Curvature._fields, (classes,)
    ):
        raise Damaged(f"Predictors of harm {'/'.join(place)} are not those of {classes} classes")
    return arrays
