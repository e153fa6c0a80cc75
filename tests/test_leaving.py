"""SIGTERM during training saves the round; anywhere else it ends the process at once."""

import collections
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from rcm import history, leaving
from rcm.arrays import uninterrupted
from rcm.checkpoints import Checkpoints
from rcm.leaving import Preempted, asked, saving
from rcm.rounds import AHEAD
from rcm.train.step import Metrics
from rcm.writing import Writer


@pytest.fixture(autouse=True)
def listening():
    """As in a command; what was heard is forgotten afterwards."""
    previous = signal.signal(signal.SIGTERM, leaving._heard)
    yield
    signal.signal(signal.SIGTERM, previous)
    leaving._notice.asked = False


def terminate():
    signal.raise_signal(signal.SIGTERM)


def test_outside_of_a_round_it_ends_at_once():
    with pytest.raises(Preempted):
        terminate()
    assert asked()


@pytest.mark.parametrize("block", [saving, uninterrupted])
def test_what_must_not_be_cut_off_ends_first(block):
    """A round that has no other call to save at, and a write."""
    done = []

    @block()
    def work():
        terminate()
        done.append(1)

    with pytest.raises(Preempted):
        work()
    assert done
    assert signal.getsignal(signal.SIGTERM) is leaving._heard


@pytest.mark.parametrize("last", [10, 4])
def test_training_is_saved_before_a_checkpoint_is_due(last):
    """In a call in the middle, and in the last one, behind which nothing else would save it; with
    the metrics of all calls so far, also of those that nobody has waited for."""
    saved = []
    keeper = SimpleNamespace(
        plan=SimpleNamespace(study=SimpleNamespace(checkpoint_seconds=1e9)),
        store=SimpleNamespace(save_progress=lambda *arguments: saved.append(arguments)),
        display=SimpleNamespace(advance=lambda *_: None),
        writer=Writer(),
    )
    jobs = [SimpleNamespace(steps=10)] * 2
    checkpoint = Checkpoints(keeper, "chunk", jobs, 0, 0.0, history.start(2, 10, None))
    flight = collections.deque(Metrics(np.ones((2, 1)), np.ones((2, 1))) for _ in range(3))

    @saving()
    def train():
        checkpoint(3, "the states", flight)
        assert not saved
        assert len(flight) == AHEAD
        terminate()
        flight.extend(Metrics(np.ones((2, 1)), np.ones((2, 1))) for _ in range(last - 3))
        checkpoint(last, "the next states", flight)

    with pytest.raises(Preempted):
        train()
    ((chunk, step, state, _, told),) = saved
    assert (chunk, step, state) == ("chunk", last, "the next states")
    assert sum(told["batches"]) == last
    assert told["loss"] == [told["batches"]] * 2
