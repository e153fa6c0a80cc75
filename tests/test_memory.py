"""A device with too little memory costs lanes, and nothing else."""

import dataclasses

import jax
import numpy as np
import pytest

from rcm import config, evaluate, rounds
from rcm.memory import halved
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.run import Runner
from rcm.store import Store, load_member
from rcm.sweep import Execution
from rcm.testing import Tester

TWO = Execution("loop", 2, 2, 1)


@pytest.fixture(scope="module")
def plan_and_cells(make_toy_study):
    """Three dense members and three pruned ones, tested on clean images only."""
    study = make_toy_study()
    data = dataclasses.replace(study.data, ratios=(1,))
    pipelines = study.pipelines[:1]
    return prepare(
        dataclasses.replace(study, seeds=3, data=data, pipelines=pipelines, shift=config.Shift())
    )


def run(plan_and_cells, workdir, execution=TWO):
    """Train and test; the execution that was left in the end."""
    plan, cells = plan_and_cells
    with Display() as display:
        store = Store(workdir)
        runner = Runner(plan, store, execution, False, display)
        runner.run()
        tester = Tester(plan, store, execution, display, memory=2**31, cache=workdir)
        tester.run(cells)
    return runner.execution, tester.execution


@pytest.fixture(scope="module")
def undisturbed(plan_and_cells, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    run(plan_and_cells, workdir)
    return workdir


def too_large(monkeypatch, module, name, most):
    """As XLA says it, where a call has more lanes than fit."""
    whole = getattr(module, name)

    def limited(program, execution, *arguments):
        if execution.lanes > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
        return whole(program, execution, *arguments)

    monkeypatch.setattr(module, name, limited)


def test_half_as_many_lanes_give_the_same_members(
    plan_and_cells, undisturbed, tmp_path, monkeypatch, capsys
):
    too_large(monkeypatch, rounds, "run_round", 1)
    too_large(monkeypatch, evaluate, "predict_cell", 1)
    trained, tested = run(plan_and_cells, tmp_path)
    assert (trained.lanes, tested.lanes) == (1, 1)
    assert "Too little memory for 2 lanes: 1 now." in capsys.readouterr().out
    assert not Store(tmp_path).unfinished()
    for job in plan_and_cells[0].jobs:
        expected = load_member(undisturbed, job)
        for name, leaf in load_member(tmp_path, job).items():
            np.testing.assert_array_equal(leaf, expected[name])
        answers = [answers_of(workdir, job) for workdir in (tmp_path, undisturbed)]
        np.testing.assert_array_equal(*answers)


def answers_of(workdir, job):
    store = Store(workdir)
    place = store.index()[job]
    return store.load_predictions(place.chunk, "clean")["logits"][place.row]


def test_what_fits_nowhere_ends_in_a_sentence(plan_and_cells, tmp_path, monkeypatch):
    too_large(monkeypatch, rounds, "run_round", 0)
    with pytest.raises(ValueError, match=r"dense does not fit .* even alone: lower train.batch"):
        run(plan_and_cells, tmp_path)


def test_other_faults_of_a_device_are_not_taken_for_it(plan_and_cells, tmp_path, monkeypatch):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is gone")

    monkeypatch.setattr(rounds, "run_round", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is gone"):
        run(plan_and_cells, tmp_path)


@pytest.mark.parametrize(
    ("lanes", "devices", "expected"),
    [(8, 1, (4, 1)), (30, 2, (14, 2)), (5, 1, (2, 1)), (3, 3, (1, 1)), (2, 2, (1, 1))],
)
def test_lanes_are_halved_on_each_device_and_then_devices(lanes, devices, expected):
    fewer = halved(Execution("vmap", lanes, devices, 1), "it")
    assert (fewer.lanes, fewer.devices) == expected
