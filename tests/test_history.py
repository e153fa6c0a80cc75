"""What is kept of training: means over spans of steps, whole and interrupted, by member."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from rcm import config, history
from rcm.compress import Prune, Quantize
from rcm.config import Pipeline, Scratch, Study
from rcm.curves import COLUMNS, training_table
from rcm.history import add, plain, start
from rcm.preparation import prepare


def seen(steps, values, calls):
    """A history of `values` [members, steps], told in calls of so many steps."""
    kept, first = start(len(values), steps), 0
    for count in calls:
        part = values[:, first : first + count]
        add(kept, steps, first, part, part / 10)
        first += count
    return kept


def test_a_curve_is_the_mean_of_each_span():
    steps = 2 * history.POINTS
    values = np.random.default_rng(0).uniform(0, 3, (2, steps))
    kept = seen(steps, values, [25] * (steps // 25))
    assert kept["batches"].tolist() == [2] * history.POINTS
    pairs = values.reshape(2, -1, 2).mean(2)
    np.testing.assert_allclose(kept["loss"] / kept["batches"], pairs)
    np.testing.assert_allclose(kept["accuracy"] / kept["batches"], pairs / 10)


@pytest.mark.parametrize("steps", [1, 3, 49, 50, 51, 777])
def test_every_step_counts_once_however_many_there_are(steps):
    kept = seen(steps, np.ones((1, steps)), [1] * steps)
    assert len(kept["batches"]) == min(steps, history.POINTS)
    assert kept["batches"].sum() == steps
    assert kept["batches"].min() >= 1
    np.testing.assert_allclose(kept["loss"][0], kept["batches"])


def test_lanes_without_a_member_are_left_out():
    kept = start(1, 4)
    add(kept, 4, 0, np.array([[1.0, 2], [9, 9]]), np.zeros((2, 2)))
    assert kept["loss"].tolist() == [[1, 2, 0, 0]]


def test_an_interrupted_round_goes_on_where_it_was():
    values = np.random.default_rng(1).uniform(0, 3, (2, 120)).round(2)
    whole, first = seen(120, values, [40] * 3), seen(120, values, [40])
    again = start(2, 120, json.loads(json.dumps(plain(first))))
    add(again, 120, 40, values[:, 40:], values[:, 40:] / 10)
    for name in whole:
        np.testing.assert_allclose(again[name], whole[name])


def test_a_diverged_member_spoils_only_its_own_spans():
    values = np.ones((2, 100))
    values[1, 60:] = np.nan
    kept = json.loads(json.dumps(plain(seen(100, values, [100]))))
    loss = np.array(kept["loss"])
    assert np.isfinite(loss[0]).all()
    assert np.isfinite(loss[1]).tolist() == [True] * 30 + [False] * 20


def from_store(notes):
    """A plan of a dense and a pruned member in one chunk each, and a store with their notes."""
    jobs = {
        name: SimpleNamespace(fingerprint=name, label=label, ratio=10, seed=3, steps=steps)
        for name, label, steps in (("a", "dense", 100), ("b", "prune 50%", 4))
    }
    places = {name: SimpleNamespace(chunk=f"chunk-{name}", row=0) for name in jobs}
    plan = SimpleNamespace(jobs=jobs, ends={("dense", 10, 3): "a", ("prune", 10, 3): "b"})
    return plan, places, notes


def test_a_row_names_the_pipeline_that_ends_with_its_stage():
    """Those of networks beside the study's own, too, which others are made of; not a stage on the
    way; and of two pipelines with one end the first."""
    whole = Study(
        data=config.Data("digits", ratios=(1,)), model=config.Model("tiny"), seeds=1,
        train=config.Train(epochs=2, batch=32), claims="",
        pipelines=(
            Pipeline("wide", (Scratch(8),)),
            Pipeline("wide_int8", (Scratch(8), Quantize(8))),
            Pipeline("again", (Scratch(8),)),
            Pipeline("pruned_int8", (Prune(0.5), Quantize(8))),
        ),
    )  # fmt: skip
    plan, _ = prepare(whole)
    places, notes = {}, {}
    for number, (name, job) in enumerate(plan.jobs.items()):
        kept = plain(start(1, job.steps))
        kept["batches"] = [1.0] * len(kept["batches"])
        places[name] = SimpleNamespace(chunk=str(number), row=0)
        notes[str(number)] = {"alive": [True], "history": kept}
    table = training_table(plan, places, notes)
    named = dict(zip(table["stage"], table["pipeline"], strict=True))
    assert named == {"dense": "dense", "finetune": "finetune", "alone width 8": "wide",
                     "prune 50%": ""}  # fmt: skip


def test_the_table_has_a_row_per_span_of_every_member_that_was_kept():
    kept = plain(seen(100, np.full((1, 100), 2.0), [100]))
    notes = {"chunk-a": {"alive": [False], "history": kept}, "chunk-b": {"alive": [True]}}
    table = training_table(*from_store(notes))
    assert list(table.columns) == list(COLUMNS)
    assert table["step"].tolist() == list(range(2, 101, 2))
    assert set(table["stage"]) == {"dense"}  # of an earlier version nothing is kept
    assert table["loss"].tolist() == pytest.approx([2.0] * 50)
    assert table["accuracy"].tolist() == pytest.approx([0.2] * 50)
    assert set(table["status"]) == {"diverged"}
    empty = {name: {"alive": [True]} for name in notes}
    assert training_table(*from_store(empty)).empty


def test_a_stage_that_trains_nothing_has_no_rows():
    notes = {f"chunk-{n}": {"alive": [True], "history": plain(start(1, 0))} for n in "ab"}
    assert training_table(*from_store(notes)).empty
