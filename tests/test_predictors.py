"""What may foretell harm, through a whole study: measured once, kept, and read back."""

import dataclasses
import shutil

import jax
import numpy as np
import pandas as pd
import pytest

from rcm import estimate, predictors, sweep, unreferred
from rcm.data.longtail import tail_table
from rcm.members import Members
from rcm.preparation import prepare
from rcm.report import page
from rcm.store import Store
from rcm.sweep import Execution
from rcm.train.curvature import Curvature
from tests.commands import run_study

IMAGES = 20  # of a class; the rarest of ratio 4 has 15


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(page, "all_figures", lambda *_: [])


@pytest.fixture(scope="module")
def finished(make_toy_study, tmp_path_factory):
    """(study, workdir, results) of one pipeline at two ratios, two seeds each."""
    study = make_toy_study()
    study.pipelines, study.predictor_images = study.pipelines[:1], IMAGES
    study.shift.corruptions = ()
    workdir = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setattr(page, "all_figures", lambda *_: [])
        return study, workdir, results(run_study(study, workdir))


def results(path):
    return pd.read_parquet(path.parent / "results.parquet")


def test_every_dense_member_has_them_by_class(finished):
    frame = finished[2]
    rows = frame[frame["metric"].isin([f"class_{name}" for name in Curvature._fields])]
    assert set(rows["pipeline"]) == {"dense"}
    assert len(rows) == len(Curvature._fields) * 3 * 2 * 2  # classes, ratios, seeds
    by_metric = rows.groupby("metric")["value"]
    assert by_metric.min()["class_gradient"] > 0
    assert by_metric.max()["class_margin"] <= 1
    assert by_metric.nunique().min() == 12  # every member and class differs


def test_they_are_those_of_the_members_own_images(finished):
    """Of the largest ratio's rarest class, by the engine's function on one member alone."""
    study, workdir, frame = finished
    plan, _ = prepare(study)
    rare = int(np.argmin(plan.tails[4].counts))
    job = plan.jobs[plan.ends["dense", 4, 1]]
    own = plan.tails[4].table[plan.dataset.train.labels[plan.tails[4].table] == rare]
    assert len(own) < IMAGES
    state = Members(plan, Store(workdir)).state(job.fingerprint)
    alone = Execution("loop", 1, 1, 1)
    start, turn = sweep.compiled_curvature(job.program, alone)
    given = sweep.stack([(plan.dataset.train.images[own], np.ones(len(own), np.float32), state)])
    images, weights, states = sweep.place(alone, given)
    found, _ = turn(np.int32(rare), images, weights, states, start(states))
    rows = frame[(frame["ratio"] == 4) & (frame["seed"] == 1) & (frame["cls"] == str(rare))]
    values = rows.set_index(["metric", "pipeline"])["value"]
    for name in ("margin", "gradient"):
        assert values[f"class_{name}", "dense"] == pytest.approx(
            float(getattr(found, name)[0]), rel=1e-4
        )


def test_images_of_a_larger_ratio_are_among_those_of_a_smaller(finished):
    plan, _ = prepare(finished[0])
    images, weights = zip(*(predictors.images_of(plan, ratio, 2) for ratio in (1, 4)), strict=True)
    few, many = int(weights[1].sum()), int(weights[0].sum())
    assert (few, many) == (plan.tails[4].counts[2], IMAGES)
    pool = {image.tobytes() for image in images[0]}
    whole = plan.tails[1]
    every = plan.dataset.train.images[
        tail_table(plan.dataset.train.labels, whole.table, whole.counts, 0)
    ]
    assert {image.tobytes() for image in images[1][:few]} <= pool <= {i.tobytes() for i in every}


def test_nothing_is_measured_twice_and_what_is_broken_once_more(finished, tmp_path, monkeypatch):
    study, workdir, first = finished
    shutil.copytree(workdir, tmp_path / "runs")
    files = sorted(tmp_path.glob("runs/stages/*/predictions/curvature*"))
    assert len(files) == 4
    assert unreferred.find(Store(tmp_path / "runs")).what == ""
    files[0].write_bytes(files[0].read_bytes()[:40])
    with pytest.raises(ValueError, match="run the command without --report_only first"):
        run_study(study, tmp_path / "runs", report_only=True)
    measured, of_round = [], predictors._of_round

    def counted(plan, members, jobs, *rest):
        measured.extend(jobs)
        return of_round(plan, members, jobs, *rest)

    monkeypatch.setattr(predictors, "_of_round", counted)
    again = results(run_study(study, tmp_path / "runs"))
    assert [job.fingerprint in files[0].name for job in measured] == [True]
    pd.testing.assert_frame_equal(first, again, check_exact=True)


@pytest.mark.parametrize("most", [1, 0])
def test_fewer_at_once_where_a_device_has_too_little_memory(
    finished, tmp_path, monkeypatch, capsys, most
):
    study, workdir, first = finished
    shutil.copytree(workdir, tmp_path / "runs")
    for path in tmp_path.glob("runs/stages/*/predictions/curvature*"):
        path.unlink()
    of_round = predictors._of_round

    def limited(plan, members, jobs, execution):
        if execution.devices > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return of_round(plan, members, jobs, execution)

    monkeypatch.setattr(predictors, "_of_round", limited)
    if most:
        pd.testing.assert_frame_equal(
            first, results(run_study(study, tmp_path / "runs")), check_exact=True
        )
    else:
        with pytest.raises(ValueError, match="lower predictor_images, choose"):
            run_study(study, tmp_path / "runs")
    assert "Too little memory for 2 lanes: 1 now." in capsys.readouterr().out


def test_studies_that_do_not_ask_have_none(toy_study):
    plan, _ = prepare(toy_study)
    assert predictors.dense_jobs(plan) == []


def test_the_plan_says_what_they_cost(finished):
    study, one = finished[0], estimate.here(Execution("loop", 1, 1, 1))
    plan, cells = prepare(study)
    with_them = estimate.total_cost(plan, cells, one)
    without, _ = prepare(dataclasses.replace(study, predictor_images=0))
    assert with_them.seconds > estimate.total_cost(without, cells, one).seconds + 5
    table = estimate.plan_table(plan, cells, one)
    assert "predictors of harm" in list(table.columns[0].cells)
