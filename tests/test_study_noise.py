"""A study with planted labels: what members are taught, what they are tested on, what is told."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from rcm import config, populations
from rcm.analysis.metrics import MemberInfo
from rcm.compress import Prune
from rcm.config import Replica
from rcm.data.identity import RawArrays, as_dataset
from rcm.members import Members
from rcm.plan import Plan
from rcm.populations import other_labels, population_rows, training_image_rows
from rcm.preparation import prepare
from rcm.progress import Display
from rcm.store import Store
from rcm.study import Options, execute
from rcm.sweep import Execution


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def noisy(toy_study):
    toy_study.data.label_noise = 0.2
    toy_study.shift = config.Shift(train_images=30)
    toy_study.pipelines = (
        config.Pipeline("again", (Replica(),)),
        config.Pipeline("prune50", (Prune(0.5),)),
    )
    return toy_study


def wrong_of(plan: Plan) -> np.ndarray:
    return plan.labels != plan.dataset.train.labels


def test_members_are_taught_the_planted_labels_however_images_are_fed(noisy, tmp_path):
    plan, _ = prepare(noisy)
    members = Members(plan, Store(tmp_path))
    pool = members.pool(Execution("loop", 1, 1, 1))
    assert np.array_equal(np.asarray(pool.labels).reshape(-1), plan.labels)
    noisy.data.feed = "stream"
    plan, _ = prepare(noisy)
    feed = Members(plan, Store(tmp_path)).feed
    images, labels = feed.args  # of stream.batches
    assert np.array_equal(images, plan.dataset.train.images)
    assert np.array_equal(labels, plan.labels)
    assert wrong_of(plan).any()


def test_seeds_and_ratios_share_what_is_wrong_and_validation_images_keep_their_labels(noisy):
    plan, cells = prepare(noisy)
    more, _ = prepare(dataclasses.replace(noisy, seeds=5))
    assert np.array_equal(plan.labels, more.labels)
    assert wrong_of(plan)[plan.tails[4].table].sum() == sum(
        np.floor(0.2 * count + 0.5) for count in plan.tails[4].counts
    )
    assert not wrong_of(plan)[plan.validation].any()
    for cell in cells:
        if cell.shift.startswith("clean_"):
            assert np.array_equal(cell.labels, plan.dataset.train.labels[cell.ids])


def test_tested_training_images_are_those_of_every_ratio_and_known_by_their_own_name(noisy):
    plan, cells = prepare(noisy)
    assert [cell.shift for cell in cells] == ["clean", "clean_val", "clean_train"]
    assert np.isin(cells[2].ids, plan.tails[4].table).all()
    assert wrong_of(plan)[cells[2].ids].sum() == 15  # half of them, of 20 in the tail of ratio 4
    noisy.data.label_noise = 0.3
    other = prepare(noisy)[1][2]
    assert other.key != cells[2].key
    noisy.data.label_noise, noisy.shift.train_images = 0.0, 0
    assert [cell.shift for cell in prepare(noisy)[1]] == ["clean", "clean_val"]


def test_planted_exemplars_are_told_of_every_ratio_and_of_training_images_alone(noisy):
    """Dense members know the wrong labels by heart and pruned ones none of them."""
    noisy.seeds = 5
    plan, cells = prepare(noisy)
    cell = cells[2]
    truth, given = cell.labels, plan.labels[cell.ids]
    labels = {end: truth if end[0] == "prune50" else given for end in plan.ends}
    infos = {
        (name, ratio, seed): MemberInfo("d", "m", "exp", ratio, seed, name, "f", (5, 5, 5), 5, 10)
        for name, ratio, seed in plan.ends
    }
    infos["again", 4, 2] = dataclasses.replace(infos["again", 4, 2], status="diverged")
    frame = pd.DataFrame(training_image_rows(plan, cell, labels, infos))
    assert set(frame["cls"]) == {"planted"}
    values = frame.groupby(["ratio", "pipeline", "metric"])["value"].mean().unstack()
    assert values.loc[(1, "prune50"), "mislabelled_exemplar_rate"] == 1
    assert values.loc[(1, "prune50"), "mislabelled_exemplar_excess"] == 1
    assert values.loc[(1, "prune50"), "well_labelled_exemplar_rate"] == 0
    assert values.loc[(4, "again"), "mislabelled_memorised"] == 1
    assert values.loc[(4, "prune50"), "mislabelled_accuracy"] == 1
    few = values.loc[[(4, "again"), (4, "prune50")]]  # a replica of four is no null of five
    assert few[["mislabelled_exemplar_excess"]].isna().all(axis=None)
    assert population_rows(plan, cell, labels, infos, {}) == []  # whose pooled rates mean nothing


def test_labels_of_people_are_a_mark_where_they_lie_beside_the_images(noisy, tmp_path, monkeypatch):
    plan, cells = prepare(noisy)
    raw = plan.dataset.train
    arrays = RawArrays(raw.images, raw.labels, raw.images, raw.labels, plan.dataset.classes)
    noisy.data = config.Data(ratios=(1,), data_dir=str(tmp_path))
    known = dataclasses.replace(plan, study=noisy, dataset=as_dataset("cifar10", arrays))
    assert other_labels(known, cells[2]) == {}
    (tmp_path / "cifar10_n" / "1.0.0").mkdir(parents=True)
    (tmp_path / "cifar10_n" / "1.0.0" / "dataset_info.json").touch()
    said = (known.dataset.train.labels + 1) % 3
    asked = []
    monkeypatch.setattr(
        populations.human, "noisy_labels", lambda *given: asked.append(given) or said
    )
    assert np.array_equal(other_labels(known, cells[2])["human"], said[cells[2].ids])
    assert asked == [(known.dataset.train, "aggre_label", str(tmp_path))]


def test_a_study_reports_what_its_members_answer_to_wrong_labels(noisy, tmp_path):
    noisy.seeds, noisy.data.ratios, noisy.claims = 1, (1,), "S4"
    noisy.pipelines = noisy.pipelines[:1]
    with Display() as display:
        path = execute(noisy, Options(workdir=str(tmp_path), lanes=2), display)
    frame = pd.read_parquet(path.parent / "results.parquet")
    own = frame[frame["shift"] == "clean_train"]
    assert set(own["pipeline"]) == {"dense", "again"}
    assert set(own["metric"]) == {
        "mislabelled_accuracy", "mislabelled_memorised", "well_labelled_accuracy",
    }  # fmt: skip
    assert own["value"].between(0, 1).all()
    text = (path.parent / "report.md").read_text()
    assert "Wrongly labelled images" in text
    assert "20 % of each class's training images get the label of another class" in text
    assert "mislabelled" in {file.stem for file in (path.parent / "figures").glob("*.png")}
