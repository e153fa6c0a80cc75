"""Who runs what in a distributed run: every task once, loads balanced, waves in order."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcm.estimate import Machine, member_seconds
from rcm.hosts import Hosts
from rcm.plan import Stage
from rcm.preparation import prepare
from rcm.schedule import load, longest_first, round_of, shares, unfilled, waves
from rcm.sweep import Execution

MACHINE = Machine(Execution("loop", 1, 1, 1), "cpu")


@given(st.lists(st.floats(0, 1e6), max_size=40), st.integers(1, 8))
def test_every_task_has_one_process_and_no_process_much_more_than_another(costs, count):
    found = shares(costs, count)
    assert sorted(place for own in found for place in own) == list(range(len(costs)))
    loads = [sum(costs[place] for place in own) for own in found]
    assert max(loads) - min(loads) <= max(costs, default=0) * (1 + 1e-9)
    assert max(loads) <= (4 / 3) * max([sum(costs) / count, *costs, pair(costs, count)]) + 1e-6


def pair(costs, count):
    """No distribution is shorter than this: of count + 1 tasks two share a process."""
    ranked = sorted(costs, reverse=True)
    return ranked[count - 1] + ranked[count] if len(costs) > count else 0.0


def test_the_longest_are_given_away_first():
    """By hand: 7 and 6 to one each, 5 to the second, 4 to the first, 2 beside either (11 : 11)."""
    assert shares([2, 4, 5, 6, 7], 2) == [[0, 1, 4], [2, 3]]
    assert shares([1.0, 1.0, 1.0], 1) == [[0, 1, 2]]
    assert shares([3.0], 3) == [[0], [], []]


def stage(name, *needs):
    return Stage(name, [SimpleNamespace(fingerprint=name, needs=set(needs))])


def test_a_wave_needs_only_earlier_ones():
    dense, alone = stage("dense"), stage("alone")
    tuned, student = stage("tuned", "dense"), stage("student", "alone", "dense")
    last = stage("last", "tuned")
    assert list(waves([last, tuned, dense, student, alone])) == [
        [dense, alone], [tuned, student], [last],
    ]  # fmt: skip


def test_the_longest_stage_is_the_first_of_those_that_can_begin(make_toy_study):
    """Dense members of 40 steps before the smaller network's 40, and those before 20 of tuning."""
    plan = prepare(make_toy_study())[0]
    ordered = longest_first(plan.stages[::-1], MACHINE.execution)
    seconds = [member_seconds(one.first, MACHINE) * len(one.jobs) for one in ordered]
    assert seconds == sorted(seconds, reverse=True)
    assert ordered[0].first.label == "dense"
    assert seconds[0] > seconds[-1]


def test_the_idle_share_of_a_plan(make_toy_study):
    """Of one process nothing is idle; of very many nearly all, in which each wave lasts as long as
    its longest round."""
    plan = prepare(make_toy_study())[0]
    alone, crowd = load(plan, MACHINE, 1), load(plan, MACHINE, 1000)
    assert alone.idle == pytest.approx(0)
    rounds = [
        [1 + member_seconds(stage.first, MACHINE) for stage in wave for _ in stage.jobs]
        for wave in waves(plan.stages)
    ]
    assert alone.seconds == pytest.approx(sum(map(sum, rounds)))
    assert crowd.seconds == pytest.approx(sum(map(max, rounds)))
    assert crowd.idle == pytest.approx(1 - alone.seconds / (1000 * crowd.seconds))


@pytest.mark.parametrize(
    ("seeds", "execution", "empty"),
    [
        (2, Execution("loop", 2, 2, 1), 0.0),  # two seeds at two ratios: two full rounds
        (3, Execution("loop", 4, 4, 1), 1 / 4),  # six members in two rounds of four
        (1, Execution("loop", 8, 8, 1), 3 / 4),  # two members on eight devices
        (3, Execution("vmap", 16, 2, 1), 0.0),  # six lanes are enough, three on either device
    ],
)
def test_what_no_member_fills(make_toy_study, seeds, execution, empty):
    study = make_toy_study()
    study.seeds = seeds
    plan = prepare(study)[0]
    assert unfilled(plan, MACHINE._replace(execution=execution)) == pytest.approx(empty)


def test_a_round_comes_back_from_json():
    assert round_of(["a"], ["vmap", 4, 2, 1], True).execution == Execution("vmap", 4, 2, 1)


def test_alone_nothing_waits():
    hosts = Hosts()
    assert hosts.leads
    assert hosts.gather(3) == [3]
    assert hosts.agree("x") == "x"
    hosts.post("stage", 5)
    assert hosts.posted("stage") == 0
    assert hosts.waited == 0
