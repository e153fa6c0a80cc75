"""What a plan is said to cost before it runs."""

import dataclasses

import pytest

from rcm import config, estimate
from rcm.config import Attack
from rcm.estimate import COMPILE_SECONDS, H200, Machine, evaluation_cost, stage_cost
from rcm.preparation import prepare
from rcm.shifted import can_be_kept
from rcm.sweep import Execution
from rcm.train import fit

ONE, TWO = (Machine(Execution("loop", n, n, 1), "cpu") for n in (1, 2))


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
    assert estimate.rounds(3, TWO.execution) == 2
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
    program = job.program
    teacher = estimate.forward_seconds(program.teacher, program.classes, program.image, "cpu")
    extra = training(distilled, ONE) - training(alone, ONE)
    assert extra == pytest.approx(len(distilled.jobs) * job.steps * job.program.batch * teacher)
    quantized = next(s for n, s in stages.items() if n.startswith("int"))
    assert training(quantized, ONE) == 0


def test_corrupted_images_cost_their_making_for_every_stage_unless_they_are_kept(toy_study):
    """8 x 8 pixels each, at 10 million a second."""
    plan, cells = prepare(toy_study)
    made = sum(len(cell.ids) for cell in cells if can_be_kept(cell))
    stages = {stage.key for stage in plan.stages for job in stage.jobs
              if job.fingerprint in plan.ends.values()}  # fmt: skip
    each_time = evaluation_cost(plan, cells, ONE).seconds
    toy_study.shift.cache = True
    kept = evaluation_cost(*prepare(toy_study), ONE).seconds
    assert made > 0
    assert each_time - kept == pytest.approx((len(stages) - 1) * made * 64 / 1e7)


def test_tests_of_an_odd_population_cost_as_much_as_of_one_more(toy_study, monkeypatch):
    """Lanes that are filled up answer, too."""
    monkeypatch.setattr(estimate, "cores", lambda: 2)
    toy_study.pipelines, toy_study.data.ratios = (), (1,)
    seconds = {}
    for seeds in (1, 3, 4):
        toy_study.seeds = seeds
        plan, cells = prepare(toy_study)
        seconds[seeds] = [evaluation_cost(plan, cells, machine).seconds for machine in (ONE, TWO)]
    assert seconds[3][1] == pytest.approx(seconds[4][1])
    assert seconds[3][0] - seconds[1][0] == pytest.approx(2 / 3 * (seconds[4][0] - seconds[1][0]))


def test_every_attack_is_compiled_for_every_kind_of_member(toy_study):
    toy_study.pipelines = ()
    toy_study.shift.attacks = (Attack("fgsm", eps=(1, 2)),)
    one = evaluation_cost(*prepare(toy_study), ONE).seconds
    toy_study.shift.attacks += (Attack("fgsm", eps=(4,), norm="l2"),)
    two = evaluation_cost(*prepare(toy_study), ONE).seconds
    assert COMPILE_SECONDS["cpu"] < two - one < COMPILE_SECONDS["cpu"] + 1  # and its few passes


def test_the_rate_of_the_card_is_what_was_measured():
    """2.14 ms a step of 128 images of a ResNet-20 in tf32, one member at a time on an H200."""
    model = fit.complete(config.Model("resnet20", width=16, precision="tf32"))
    given = (dataclasses.astuple(model), 10, (32, 32, 3), H200.backend)
    assert 128 * 3 * estimate.forward_seconds(*given) == pytest.approx(2.14e-3, rel=0.01)
