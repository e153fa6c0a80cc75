"""A device with too little memory costs lanes, and nothing else."""

import dataclasses

import jax
import numpy as np
import pytest

from rcm import calibrate, config, evaluate, heap, memory, rounds, sweep
from rcm.compress import QAT, Prune
from rcm.exhausted import halved
from rcm.members import Members
from rcm.memory import foretell
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.rounds import StepMemory
from rcm.run import Runner
from rcm.steps import Rewound, tuned
from rcm.store import Store, load_member
from rcm.sweep import Execution
from rcm.testing import Tester, member_bytes
from rcm.train import fit
from tests.engine import POOL, lane, program

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
    said = []
    fewer = halved(Execution("vmap", lanes, devices, 1), "it", said.append)
    assert said == [f"Too little memory for {lanes} lanes: {expected[0]} now."]
    assert (fewer.lanes, fewer.devices) == expected


def test_calibration_leaves_out_what_does_not_fit(plan_and_cells, tmp_path, monkeypatch):
    plan, _ = plan_and_cells
    job = next(iter(plan.jobs.values()))
    too_large(monkeypatch, rounds, "run_round", 1)
    lane, one = Members(plan, Store(tmp_path)).lane(job), Execution("loop", 1, 1, 1)
    pool = rounds.Pool(plan.dataset.train.images, plan.labels)
    seconds = calibrate.measure(job.program, [one, TWO], lane, pool)
    assert seconds[one] < 60 < seconds[TWO] == calibrate.NEVER
    assert calibrate.winner(seconds, TWO, 6) == one


def test_a_call_takes_weights_gradients_and_images_of_every_lane():
    """As XLA plans it; the pool counts by itself."""
    of = program()
    calls = {
        n: rounds.step_memory(of, Execution("vmap", n, 1, 1), POOL, lane(0), False) for n in (4, 8)
    }
    each, made = ((calls[8][i] - calls[4][i]) / 4 for i in (0, 1))
    arrays = jax.eval_shape(lambda: fit.fresh(of, np.uint32(0), ())).variables
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))
    assert weights < each < 3 * weights  # with the momentum of what is trained, and a batch
    assert weights < made < 1e6
    assert calls[4].pool == calls[8].pool == POOL.images.nbytes + POOL.labels.nbytes


@pytest.mark.parametrize(
    ("lanes", "devices", "peak", "most"),
    [
        (2, 2, 90 + 10 + 2 * 10 + 2 * 100, 3),  # virtual devices share 500: (500 - 120) / 100
        (4, 2, 90 + 10 + 2 * 10 + 4 * 100, 3),  # evenly on both
        (8, 1, 90 + 10 + 10 + 8 * 100, 3),  # twice what a call is to make, 50 a lane
    ],
)
def test_lanes_that_fit_are_counted(monkeypatch, lanes, devices, peak, most):
    done = []

    def fake(name, found=None):
        return lambda *_: (done.append(name), found)[1]

    monkeypatch.setattr(memory, "used_memory", fake("used", 90))
    monkeypatch.setattr(memory.heap.HOLES, "give_back", fake("give back"))
    monkeypatch.setattr(memory.heap, "peak", fake("peak", 90))
    monkeypatch.setattr(memory, "BESIDE", 10)
    monkeypatch.setattr(memory, "OVER_PLAN", 2.0)
    monkeypatch.setattr(memory, "device_memory", lambda: 500)
    planned = StepMemory(0, 50 * lanes // devices, 10)
    monkeypatch.setattr(memory, "step_memory", fake("compile", planned))
    need = foretell(program(), Execution("vmap", lanes, devices, 1), POOL, lane(0), False)
    assert done == [  # what compiling leaves is not the step's
        "give back", "used", "compile", "peak", "give back", "used", "used",
    ]  # fmt: skip
    assert (need.peak, need.limit) == (peak, 500)
    assert need.lanes == most // devices * devices


@pytest.mark.parametrize(
    ("limit", "others", "made", "peak", "programs", "lanes"),
    [
        (1000, 0, 100, 130 + 10 + 8 + 100, 0, 8),  # a call
        (1000, 3, 100, 130 + 3 * 30 + 10 + 8 + 100, 3 * 30, 7),  # beside three more programs
        (300, 3, 100, 130 + 20 + 10 + 8 + 100, 20, 1),  # of which half of the memory has no more
        (1000, 3, 5, 100 + 3 * 30 + 10 + 8 + 60, 3 * 30, 152),  # compiling takes more than a call
        (160, 0, 5, 100 + 10 + 8 + 60, 0, 0),  # and does not fit, however few the lanes
    ],
)
def test_programs_are_kept_and_compiling_takes_memory(
    monkeypatch, limit, others, made, peak, programs, lanes
):
    """A process of 100 bytes takes 160 while it compiles, and 130 from then on."""
    taken = iter((100, 130, 130))
    monkeypatch.setattr(memory, "used_memory", lambda: next(taken))
    monkeypatch.setattr(memory.heap, "forget_peak", lambda: True)
    monkeypatch.setattr(memory.heap, "peak", lambda: 160)
    monkeypatch.setattr(memory, "BESIDE", 10)
    monkeypatch.setattr(memory, "OVER_PLAN", 1.0)
    monkeypatch.setattr(memory, "device_memory", lambda: limit)
    monkeypatch.setattr(memory, "step_memory", lambda *_: StepMemory(0, made, 8))
    one = Execution("loop", 1, 1, 1)
    need = foretell(program(), one, POOL, lane(0), False, others=others)
    assert (need.peak, need.programs, need.lanes) == (peak, programs, lanes)


@pytest.mark.parametrize(("forgets", "backend"), [(False, "cpu"), (True, "gpu")])
def test_a_peak_that_says_nothing_of_compiling_is_not_counted(monkeypatch, forgets, backend):
    """That of the whole life of the process, or of a host beside an accelerator."""
    monkeypatch.setattr(memory.heap, "forget_peak", lambda: forgets)
    monkeypatch.setattr(memory.heap, "peak", lambda: 10**12)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert memory._compiled(lambda: StepMemory(1, 2, 3)).compiling == 0


def test_a_plan_is_looked_at_closely_where_the_process_itself_fills_the_memory(attacked):
    """However small its steps are."""
    tester, cells = attacked
    given = (tester.plan.jobs.values(), tester.plan, tester.members, TWO)
    assert memory.require(*given) is tester.require(cells) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "device_memory", lambda: 1.5 * memory.used_memory())
        for asked in (lambda: memory.require(*given), lambda: tester.require(cells)):
            need = asked()
            assert need is not None
            assert need.peak > memory.BESIDE


def test_the_peak_of_a_process_is_seen_and_forgotten():
    if not (heap.peak() and heap.forget_peak()):
        pytest.skip("this system does not tell it, or lets nobody reset it")
    held = np.ones(2**26, np.uint8)
    before, size = heap.peak(), held.nbytes
    del held
    heap.HOLES.give_back()
    heap.forget_peak()
    assert heap.peak() < before - size // 2


def test_processes_of_one_machine_share_its_memory(monkeypatch):
    """On CPU; an accelerator is one process's own."""
    monkeypatch.setattr(memory, "device_memory", lambda: 6 * 2**30)
    assert (memory.there(1), memory.there(3)) == (6 * 2**30, 2 * 2**30)
    told = memory.told(None, memory.Need(2**30, 2**31, 2), 3)
    assert "training takes nothing, testing some 1.00 GiB of the 2.0 GiB there are" in told
    assert told.endswith(" for each of 3 processes on this machine.")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert memory.there(3) == 6 * 2**30


@pytest.fixture(scope="module")
def every_start(make_toy_study, tmp_path_factory):
    """A finished study whose stages begin in every way there is, and its members."""
    study = make_toy_study()
    study.data = dataclasses.replace(study.data, ratios=(1,))
    study.shift = config.Shift()
    teachers = config.Distill(width=2, teachers=2)
    study.pipelines += (
        config.Pipeline("ensemble", (teachers,)),
        config.Pipeline("qat", (QAT(8, 8),)),
        config.Pipeline("rewound", (Rewound(Prune(0.5), to=0.5),)),
        config.Pipeline("taught", (tuned(Prune(0.5), teacher="dense"),)),
    )
    plan, _ = prepare(study)
    store = Store(tmp_path_factory.mktemp("every_start"))
    with Display() as display:
        Runner(plan, store, TWO, False, display).run()
    return plan, Members(plan, store)


def test_an_outline_has_the_shapes_of_the_lane(every_start, tmp_path):
    plan, members = every_start
    before = Members(plan, Store(tmp_path))  # of which nothing is stored yet

    def shapes(lane):
        return jax.tree.map(lambda leaf: (np.shape(leaf), np.result_type(leaf)), lane._asdict())

    taught = 0
    for job in plan.jobs.values():
        lane, outline = members.lane(job), before.outline(job)
        for name in ("parent", "early", "teacher", "levels", "hyper", "calibration"):
            assert shapes(lane)[name] == shapes(outline)[name], (job.label, name)
        taught += outline.teacher is not None
    assert taught == 2 * 4  # seeds; students of one and of two, `taught` and its control


def test_the_heaviest_steps_are_those_that_observe_and_those_with_most_teachers(every_start):
    plan, members = every_start
    pool = rounds.Pool(plan.dataset.train.images, plan.labels)
    trained = [job for job in plan.jobs.values() if job.steps]
    longest = {job.label for job in memory._longest_chains(trained)}
    assert "prune 50% > cluster 8" in longest
    assert not {"dense", "finetune", "prune 50%"} & longest  # each is a part of others
    found = memory._heaviest(trained, pool, members, TWO)
    assert {job.label for job in found} == {"QAT W8A8", "prune 50% (teacher dense)"}


def test_a_stage_that_does_not_fit_is_refused_before_its_parent_trains(
    every_start, tmp_path, monkeypatch
):
    plan, _ = every_start

    def planned(program, *_):
        return StepMemory(0, 200e6 if any("QAT" in str(s) for s in program.static) else 1e6, 5e6)

    monkeypatch.setattr(memory, "used_memory", lambda: 0)
    monkeypatch.setattr(memory.heap, "peak", lambda: 0)
    monkeypatch.setattr(memory, "BESIDE", 0)
    monkeypatch.setattr(memory, "device_memory", lambda: 120e6)
    monkeypatch.setattr(memory, "step_memory", planned)
    monkeypatch.setattr(memory, "SMALL", 0.0)
    with pytest.raises(ValueError, match=r"Training QAT W8A8 takes 0\.6 GiB"):
        memory.require(plan.jobs.values(), plan, Members(plan, Store(tmp_path)), TWO)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (120e6, "lanes, and there are 0.1: give --strategy=vmap --lanes=[1-9]"),
        (1e6, "choose a smaller model or lower"),
    ],
)
def test_what_cannot_fit_is_refused_before_it_trains(
    plan_and_cells, tmp_path, monkeypatch, limit, sentence
):
    plan, _ = plan_and_cells
    monkeypatch.setattr(memory, "used_memory", lambda: 0)
    monkeypatch.setattr(memory.heap, "peak", lambda: 0)
    monkeypatch.setattr(memory, "BESIDE", 0)
    monkeypatch.setattr(memory, "device_memory", lambda: limit)
    monkeypatch.setattr(memory, "step_memory", lambda *_: StepMemory(0, 200e6, 5e6))
    monkeypatch.setattr(memory, "SMALL", 0.0)
    lanes = Execution("vmap", 8, 2, 1)
    with pytest.raises(ValueError, match=sentence):
        memory.require(plan.jobs.values(), plan, Members(plan, Store(tmp_path)), lanes)


ATTACKS = (config.Attack("square", eps=(2,), steps=3), config.Attack("pgd", eps=(2, 4), steps=3))


@pytest.fixture
def attacked(make_toy_study, tmp_path):
    """What tests members that nothing has been trained of, and its cells."""
    study = make_toy_study()
    study.data = dataclasses.replace(study.data, ratios=(1,))
    study.shift = config.Shift(attacks=ATTACKS, attack_images=20)
    plan, cells = prepare(study)
    with Display() as display:
        yield Tester(plan, Store(tmp_path), TWO, display, memory=2**31, cache=tmp_path), cells


def test_what_is_foretold_of_a_test_is_of_the_program_that_it_runs(attacked):
    """The answers of the lowered programs are those of the tests."""
    tester, cells = attacked
    job = next(iter(tester.plan.jobs.values()))
    state = fit.settled(fit.fresh(job.program, np.uint32(0), (), None))
    rounds_of_two = [sweep.place(TWO, sweep.stack([jax.tree.map(np.asarray, state)] * 2))]
    given = (job.program, TWO, rounds_of_two)
    for cell in (cells[0], next(cell for cell in cells if cell.shift == "pgd3")):
        compiled = evaluate.lower_cell(job.program, TWO, tester.members.template(job), cell)
        if cell.severity:
            logits = compiled.compile()(*evaluate._attacked(cell, TWO, 0), tuple(rounds_of_two))[0]
            found = evaluate.attack_cell(*given, cell, lambda _: None)["label"]
        else:
            images = sweep.share(TWO, cell.batch(0))
            logits = compiled.compile()(images, *rounds_of_two)
            found = evaluate.predict_cell(*given, cell, lambda _: None)["label"]
        labels = np.asarray(logits).argmax(-1)[:, : len(cell.ids)]
        np.testing.assert_array_equal(labels, found)


def test_an_attack_that_does_not_fit_is_refused_before_anything_trains(attacked, monkeypatch):
    """Of all cells the one that asks most, beside the states that are held."""
    tester, cells = attacked
    monkeypatch.setattr(memory, "used_memory", lambda: 0)
    monkeypatch.setattr(memory.heap, "peak", lambda: 0)
    monkeypatch.setattr(memory, "BESIDE", 0)
    monkeypatch.setattr(memory, "planned_memory", lambda _: StepMemory(0, 200e6, 0))
    assert tester.require(cells) is None  # certainly little
    assert tester.require(cells, exactly=True).peak >= 2 * 1.4 * 200e6
    for limit, sentence in (
        (500e6, "Testing .* on pgd3 takes 0.5 GiB of memory in 2 lanes, and there are 0.5: "
                       "give --strategy=vmap --lanes=1"),
        (100e6, "choose a smaller model or lower --eval_memory"),
    ):  # fmt: skip
        monkeypatch.setattr(memory, "device_memory", lambda limit=limit: limit)
        monkeypatch.setattr(memory, "SMALL", 0.0)
        with pytest.raises(ValueError, match=sentence):
            tester.require(cells)
    monkeypatch.setattr(memory, "device_memory", lambda: 2e9)
    need = tester.require(cells)
    firsts = [tester.members.template(stage.first) for stage in tester.plan.stages]
    classes = len(tester.plan.dataset.classes)
    a_round = TWO.lanes * max(member_bytes(first, cells, classes) for first in firsts)
    assert need.peak >= 2 * 1.4 * 200e6 + a_round
    tester.memory = a_round
    assert tester.require(cells).peak == pytest.approx(2 * 1.4 * 200e6 + a_round)


def test_the_member_that_is_attacked_in_anothers_place_counts(attacked, monkeypatch):
    """Its state is held, and the program that is lowered attacks it and asks the other."""
    tester, cells = attacked
    job = next(iter(tester.plan.jobs.values()))
    own = next(cell for cell in cells if cell.shift == "pgd3")
    transferred = own._replace(source=config.DENSE, mark="all")
    template = tester.members.template(job)
    state = memory_of(template)
    alone, both = (member_bytes(template, [own], 4, others) for others in ((), [template]))
    assert both - alone == 2 * state

    given, lowered = [], evaluate.lower_cell
    monkeypatch.setattr(memory, "SMALL", 0.0)
    monkeypatch.setattr(
        evaluate, "lower_cell", lambda *asked: given.append(asked) or lowered(*asked)
    )
    for cell in (own, transferred):
        assert tester.require([*cells, cell]) is not None
    (*_, cell, source), (*_, other, attacked_one) = given
    assert (cell.source, source) == ("", None)
    assert other == transferred
    assert attacked_one[0] == job.program
    takes = [memory_of(lowered(*asked).in_avals) for asked in given]
    assert takes[1] - takes[0] >= TWO.lanes * state


def memory_of(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
