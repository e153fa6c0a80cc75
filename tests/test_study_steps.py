"""A study with own recipes, teachers, ensembles and lottery tickets, run from end to end."""

import jax
import numpy as np
import pandas as pd
import pytest

from rcm import config, rounds, sweep
from rcm.compress import Cluster, DynamicSparse, Prune, build_chain
from rcm.compress.base import kernels
from rcm.config import Distill, Finetune, Pipeline
from rcm.members import Members
from rcm.outcome import describe_pipelines
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.steps import FromStart, Rewound, tuned
from rcm.store import Store
from rcm.study import Options, execute
from rcm.sweep import Execution

pytestmark = pytest.mark.long  # some 30 compilations
RECIPE = {"batch": 16, "schedule": "cosine", "warmup_epochs": 0.0, "augment": "crop"}
LANE = Execution("loop", 1, 1, 1)  # what `lanes=1` is
TEACHING = {"teacher": "ensemble", "teachers": 2, "temperature": 4.0, "mixing": 0.9}
PIPELINES = {
    "tickets": (Rewound(Prune(0.5), to=0.0), Rewound(Prune(0.75), to=0.5)),
    "rates": (Rewound(Prune(0.5), weights=False, to=0.0),),
    "taught": (tuned(Prune(0.5), steps=2, loss="logit_adjusted", **TEACHING),),
    "student": (Distill(width=4, teachers=2),),  # alone it is the dense member
    "kept": (Prune(0.5), Cluster(4), Finetune()),
    "sparse": (FromStart(DynamicSparse(0.5, every=2)),),
    "never_sparse": (FromStart(DynamicSparse(0.0, every=2)),),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(plan, members, report) of a finished study on the digits; each is made once."""
    study = config.Study(
        data=config.Data(ratios=(10,), val_per_class=0),
        model=config.Model(name="tiny", width=4),
        train=config.Train(steps=6, **RECIPE),
        fine_tune=config.Train(steps=4, learning_rate=0.01, **RECIPE),
        pipelines=tuple(Pipeline(*pair) for pair in PIPELINES.items()),
    )
    workdir = tmp_path_factory.mktemp("steps")
    with pytest.MonkeyPatch.context() as patch, Display() as display:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        report = execute(study, Options(workdir=str(workdir), lanes=1), display)
        plan, _ = prepare(study)
    return plan, Members(plan, Store(workdir)), report


def end(plan, pipeline):
    return plan.jobs[plan.ends[pipeline, 10, 0]]


def stages(plan, pipeline):
    """A pipeline's jobs behind the dense one."""
    job, found = end(plan, pipeline), []
    while job.parent:
        found.insert(0, job)
        job = plan.jobs[job.parent]
    return found


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_every_member_is_tested_beside_its_control(finished):
    plan, members, report = finished
    frame = pd.read_parquet(report.parent / "results.parquet")
    controls = {
        "finetune3", "finetune_from-0.0", "finetune_from-0.0-then-finetune_from-0.5", "tiny_w4",
        "finetune_steps-2_loss-logit_adjusted_teacher-ensemble_teachers-2_temperature-4.0"
        "_mixing-0.9",
    }  # fmt: skip
    assert set(frame.pipeline) == {"dense", *PIPELINES, *controls}
    assert set(frame.status) == {"ok"}
    assert set(frame.seed) == {0}  # the mates of its ensembles are no members of the study
    page = report.read_text()
    assert "finetune (learning rate rewound to 50%)" in page
    assert all(members.state(job).alive for job in plan.jobs)


@pytest.mark.parametrize(("stage", "steps"), [(0, 0), (1, 3)])
def test_early_weights_are_the_dense_member_s_own_to_the_bit(finished, stage, steps):
    plan, members, _ = finished
    early, dense = plan.jobs[stages(plan, "tickets")[stage].early], end(plan, "dense")
    lane = members.lane(dense)
    state = rounds.begin_round(dense.program, LANE, [lane])
    course = {0: sweep.unstack(state, 1)[0]}
    keep = lambda step, state, _: course.setdefault(step, sweep.unstack(state, 1)[0])  # noqa: E731
    rounds.run_round(dense.program, LANE, members.pool(LANE), [lane], state, 0, keep)
    stored = members.state(early.fingerprint).variables
    assert early.steps == steps
    assert equal(stored, course[steps].variables)
    assert not equal(stored, course[4].variables)
    assert equal(members.state(dense.fingerprint).variables, course[6].variables)


def largest(kernel, sparsity):
    """Where the weights are that magnitude pruning keeps."""
    order = np.argsort(np.abs(kernel), axis=None, kind="stable")
    kept = np.ones(kernel.size, bool)
    kept[order[: round(sparsity * kernel.size)]] = False
    return kept.reshape(kernel.shape)


def test_tickets_begin_at_the_early_weights_under_the_trained_member_s_mask(finished):
    plan, members, _ = finished
    trained = members.state(plan.ends["dense", 10, 0]).variables
    for job, sparsity in zip(stages(plan, "tickets"), (0.5, 0.75), strict=True):
        early = members.state(job.early).variables
        begun = sweep.unstack(rounds.begin_round(job.program, LANE, [members.lane(job)]), 1)[0]
        ended = members.state(job.fingerprint)
        assert equal(ended.compression, begun.compression)
        assert equal(begun.variables["batch_stats"], early["batch_stats"])
        vectors = lambda v: [x for x in jax.tree.leaves(v["params"]) if x.ndim == 1]  # noqa: E731
        assert equal(vectors(begun.variables), vectors(early))
        for name, mask in begun.compression[-1].masks.items():
            before, source, weights, after = (
                kernels(v["params"])[name]
                for v in (trained, early, begun.variables, ended.variables)
            )
            np.testing.assert_array_equal(mask, largest(before, sparsity))
            np.testing.assert_array_equal(weights, np.where(mask, source, 0))
            assert not after[~mask].any()
            assert (after[mask] != source[mask]).mean() > 0.9
        trained = ended.variables  # of which the next mask is made


def test_learning_rate_rewinding_goes_on_with_the_trained_weights(finished):
    plan, members, _ = finished
    (job,) = stages(plan, "rates")
    begun = sweep.unstack(rounds.begin_round(job.program, LANE, [members.lane(job)]), 1)[0]
    assert equal(begun.variables, members.state(job.parent).variables)
    assert job.steps == 6
    assert job.label == "prune 50% (learning rate rewound to 0%)"


def test_teachers_are_what_their_members_became(finished):
    plan, members, _ = finished
    student = end(plan, "student")
    lane = members.lane(student)
    mates = [members.state(name).variables for name in student.teachers]
    assert [plan.jobs[name].seed for name in student.teachers] == [0, 1]
    assert equal(list(lane.teacher), mates)
    assert not equal(*mates)
    taught = members.lane(end(plan, "taught"))
    loss = taught.hyper.loss
    assert equal(taught.teacher, lane.teacher)
    assert (loss.mixing, loss.temperature) == (np.float32(0.9), 4)
    assert len(set(loss.offset.tolist())) > 1
    ends = {members.state(name).variables["params"]["head"]["kernel"].tobytes()
            for name in plan.ends.values()}  # fmt: skip
    assert (
        len(ends) == len(set(plan.ends.values())) - 1
    )  # no recipe went unheard; see the last test


def test_fine_tuning_behind_a_chain_keeps_what_it_made(finished):
    plan, members, _ = finished
    before, after = stages(plan, "kept")[-2:]
    old, new = (members.state(job.fingerprint) for job in (before, after))
    (seen,) = sweep.effective(after.program, LANE, [new])
    assert after.program.techniques == before.program.techniques
    assert build_chain(after.program.techniques).check(seen, new.compression) == []
    assert not equal(old.variables["params"], new.variables["params"])
    assert equal(old.compression[0].masks, new.compression[0].masks)
    for kernel, mask in new.compression[0].masks.items():
        found = kernels(seen["params"])[kernel]
        assert not found[~mask].any()
        assert len(np.unique(found)) <= 4


def test_sparse_training_from_the_start_is_the_dense_training_but_for_its_zeros(finished):
    """At sparsity 0 it is the dense member to the bit: its weights, its batches, its recipe."""
    plan, members, _ = finished
    dense, sparse, never = (
        members.state(plan.ends[name, 10, 0]) for name in ("dense", "sparse", "never_sparse")
    )
    assert equal(never.variables, dense.variables)
    assert not equal(sparse.variables["params"], dense.variables["params"])
    kernel = kernels(sparse.variables["params"])
    assert sum((k == 0).sum() for k in kernel.values()) == sum(
        (~mask).sum() for mask in sparse.compression[0].masks.values()
    )
    job = end(plan, "sparse")
    assert (plan.jobs[job.parent].steps, job.depth, job.label) == (
        0,
        0,
        "RigL 50% (from the start)",
    )
    info = {p.name: (p.kind, p.baseline) for p in describe_pipelines(plan)}
    assert info["sparse"] == ("trained", "dense")
