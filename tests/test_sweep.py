"""The engine: strategies agree, nothing is traced twice, training learns, calibration chooses."""

import jax
import numpy as np
import pytest

from rcm import calibrate, config, rounds, sweep
from rcm.compress import Prune
from rcm.models import layers
from rcm.models.packed import convolve_packed
from rcm.rounds import Pool
from rcm.sweep import Execution
from tests.engine import LOOP, POOL, STEPS, equal, lane, program, train


def test_loop_and_vmap_agree_over_the_first_steps():
    lanes = [lane(seed)._replace(learning_rates=np.full(3, 0.1, np.float32)) for seed in range(4)]
    loop = [train(Execution("loop", 1, 1, 1), [member], POOL)[0] for member in lanes]
    vmap = train(Execution("vmap", 4, 1, 1), lanes, POOL)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        [m.variables for m in loop],
        [m.variables for m in vmap],
    )


def test_scanned_steps_agree_with_single_ones():
    one = train(LOOP, [lane(0)], POOL)[0]
    scanned = train(Execution("loop", 2, 2, STEPS), [lane(0)], POOL)[0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        one.variables,
        scanned.variables,
    )


@pytest.fixture
def packing(monkeypatch):
    """Convolutions as on a GPU."""
    monkeypatch.setattr(
        layers, "convolve", lambda x, kernel, stride, _: convolve_packed(x, kernel, stride)
    )
    yield rounds.compiled_begin.cache_clear(), rounds.compiled_step.cache_clear()
    rounds.compiled_begin.cache_clear()
    rounds.compiled_step.cache_clear()


def test_packed_members_agree_and_one_that_diverges_leaves_the_others_alone(packing):
    together, calm = Execution("vmap", 4, 1, 1), [lane(seed) for seed in range(4)]
    wild = [calm[0], calm[1]._replace(learning_rates=np.full(STEPS, 1e30, np.float32)), *calm[2:]]
    undisturbed, found = train(together, calm, POOL), train(together, wild, POOL)
    assert [bool(member.alive) for member in found] == [True, False, True, True]
    assert equal([undisturbed[i] for i in (0, 2, 3)], [found[i] for i in (0, 2, 3)])
    start = calm[0]._replace(learning_rates=np.full(3, 0.1, np.float32))
    alone, packed = train(Execution("loop", 1, 1, 1), [start], POOL), train(together, [start], POOL)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        alone[0].variables,
        packed[0].variables,
    )


def test_one_trace_for_all_seeds_and_levels():
    of = program((Prune(0.5),))
    sweep.TRACES.clear()
    for sparsity in (0.0, 0.3, 0.9):
        lanes = [lane(seed, Prune(sparsity).levels(STEPS) and (Prune(sparsity).levels(STEPS),))
                 for seed in range(2)]  # fmt: skip
        train(LOOP, lanes, POOL, of)
    steps = [count for (kind, *_), count in sweep.TRACES.items() if kind == "step"]
    assert steps == [1]


def test_training_learns():
    """The loss on data whose label is its brightest channel falls by half in 60 steps."""
    labels, images = POOL.labels, POOL.images // 2
    images[np.arange(64), :, :, labels] += 100
    member = lane(0)._replace(
        table=np.arange(64, dtype=np.int32), learning_rates=np.full(60, 0.1, np.float32)
    )
    losses = []
    of, shared = program(), sweep.share(LOOP, Pool(images, labels))
    state = rounds.begin_round(of, LOOP, [member])

    def keep(step, state, flight):
        while flight:
            losses.append(float(flight.popleft().loss[0, 0]))

    rounds.run_round(of, LOOP, shared, [member], state, 0, keep)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_all_of_the_loss_from_a_teacher_makes_labels_play_no_part():
    """Fine-tuning with mixing 1; at mixing 0.5 labels count, at rate 0 no weight moves."""
    model = config.Model(name="tiny", width=4)
    start, teacher = train(LOOP, [lane(0), lane(1)], POOL)
    other = Pool(POOL.images, (POOL.labels + 1) % 3)

    def tuned(pool, mixing, rate):
        loss = lane(2).hyper.loss._replace(mixing=np.float32(mixing), temperature=np.float32(4))
        member = lane(2, rate=rate)._replace(parent=start, teacher=(teacher.variables,))
        member = member._replace(hyper=member.hyper._replace(loss=loss))
        return train(LOOP, [member], pool, program(teacher=model))[0].variables

    assert equal(tuned(POOL, 1, 0.1), tuned(other, 1, 0.1))
    assert not equal(tuned(POOL, 0.5, 0.1), tuned(other, 0.5, 0.1))
    assert equal(tuned(POOL, 1, 0.0)["params"], start.variables["params"])
    assert not equal(tuned(POOL, 1, 0.1)["params"], start.variables["params"])


def test_steps_per_call_divide_the_steps():
    execution = Execution("vmap", 8, 1, 25)
    assert rounds.calls_per_stage(execution, 100).steps_per_call == 25
    assert rounds.calls_per_stage(execution, 64).steps_per_call == 16
    assert rounds.calls_per_stage(execution, 0).steps_per_call == 1


def test_calibration_measures_once_and_remembers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []

    def fake(of, executions, *_):
        asked.append(executions)
        costs = {("loop", 1): 1.5, ("loop", 4): 1.0, ("vmap", 8): 0.8}
        return {execution: costs[execution.strategy, execution.lanes] for execution in executions}

    monkeypatch.setattr(calibrate, "measure", fake)
    default, many = Execution("loop", 4, 4, 1), Execution("vmap", 8, 4, 1)
    ask = lambda members: calibrate.fastest(program(), default, lane(0), POOL, members)  # noqa: E731
    assert ask(32) == ask(32) == many
    assert default in asked[0]
    assert ask(9) == default  # two rounds of 8 lanes take longer than three of 4
    assert ask(6) == many  # one round instead of two
    assert len(asked) == 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"KEY": 3}', '{"KEY": [["loop"]]}'])
def test_a_damaged_calibration_is_made_again(tmp_path, content):
    path = tmp_path / "calibration.json"
    path.write_text(content.replace("KEY", "key"))
    assert calibrate.remembered(path, "key") == {}
    seconds = {Execution("loop", 4, 4, 1): 0.5}
    calibrate.remember(path, "key", seconds)
    assert calibrate.remembered(path, "key") == seconds


def test_lanes_between_two_candidates_are_charged_as_they_will_run():
    loop, few, many = (Execution("vmap", lanes, 1, 25) for lanes in (1, 4, 16))
    seconds = {loop: 4.0, few: 1.1, many: 0.9}
    assert calibrate.winner(seconds, few, members=9) == many  # 9 lanes: 8.1 s; 3 rounds of 4: 13.2


def test_calibration_times_every_candidate():
    executions = [Execution("loop", 1, 1, 1), Execution("vmap", 2, 1, 1)]
    seconds = calibrate.measure(program(), executions, lane(0), POOL)
    assert seconds.keys() == set(executions)
    assert all(0 < value < 60 for value in seconds.values())
