"""What a plan is said to cost before it runs."""

import dataclasses

import pytest

from rcm import estimate
from rcm.estimate import COMPILE_SECONDS, stage_cost
from rcm.study import prepare
from rcm.sweep import Execution

ONE, TWO = Execution("loop", 1, 1, 1), Execution("loop", 2, 2, 1)


@pytest.fixture
def stages(toy_study):
    return {stage.label: stage for stage in prepare(toy_study)[0].stages}


def training(stage, execution):
    """Estimated seconds without compilation."""
    return stage_cost(stage, execution).seconds - COMPILE_SECONDS["cpu"]


def twice_as_long(stage):
    jobs = [dataclasses.replace(job, steps=2 * job.steps) for job in stage.jobs]
    return dataclasses.replace(stage, jobs=jobs)


def test_incomplete_rounds_cost_as_much_as_full_ones(stages, monkeypatch):
    monkeypatch.setattr(estimate, "cores", lambda: 2)
    dense = stages["dense"]  # four members
    three = dataclasses.replace(dense, jobs=dense.jobs[:3])
    assert estimate.rounds(3, TWO) == 2
    assert training(three, TWO) == pytest.approx(training(dense, TWO))
    assert training(three, ONE) == pytest.approx(0.75 * training(dense, ONE))
    assert training(dense, TWO) == pytest.approx(training(dense, ONE) / 2)


def test_time_is_in_proportion_to_the_steps(stages):
    dense = stages["dense"]
    assert training(twice_as_long(dense), ONE) == pytest.approx(2 * training(dense, ONE))


def test_a_teacher_adds_its_forward_pass_and_no_training_costs_no_steps(stages):
    alone, distilled = (
        next(s for n, s in stages.items() if n.startswith(kind)) for kind in ("alone", "distill")
    )
    job = distilled.first
    teacher = estimate.forward_seconds(job.program.teacher, job.program.classes, job.program.image)
    extra = training(distilled, ONE) - training(alone, ONE)
    assert extra == pytest.approx(len(distilled.jobs) * job.steps * job.program.batch * teacher)
    quantized = next(s for n, s in stages.items() if n.startswith("int"))
    assert training(quantized, ONE) == 0
