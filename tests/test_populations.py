"""What is doubtful about images: people's answers and a replica's, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from rcm import config, populations
from rcm.analysis.forgotten import Answers
from rcm.cells import CellSpec
from rcm.data import human
from rcm.data.identity import RawArrays, as_dataset

LABELS = np.arange(4)
IMAGES = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
SHARES = np.array(  # of ten classes: one, two alike, a half and two quarters, all alike
    [np.eye(10)[0], [0.5, 0.5] + [0] * 8, [0.5, 0.25, 0.25] + [0] * 7, [0.1] * 10]
)
ENTROPY = np.array([0, 1, 1.5, np.log2(10)]) / np.log2(10)  # bits over the most there can be


def asked(name, folder, ids, answers=None):
    """The doubts about the images `ids` of a data set `name`, of a study with a replica."""
    data = as_dataset(name, RawArrays(IMAGES, LABELS, IMAGES, LABELS, tuple("abcd")))
    steps = {"prune50": (config.Finetune(),), "again": (config.Replica(),)}
    plan = SimpleNamespace(
        dataset=data,
        study=SimpleNamespace(data=SimpleNamespace(data_dir=str(folder))),
        pipelines=[config.Pipeline(name, step) for name, step in steps.items()],
    )
    cell = CellSpec("fog", 3, data.test.images[ids], data.test.labels[ids], ids, 0)
    return populations.doubts(plan, Answers(answers or {}, cell.labels, 10, ()), cell)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where CIFAR-10H seems to lie; its shares are ours."""
    (tmp_path / "cifar10_h" / "1.0.0").mkdir(parents=True)
    (tmp_path / "cifar10_h" / "1.0.0" / "dataset_info.json").touch()

    def shares(test, data_dir):
        assert len(test.labels) == len(SHARES)
        assert data_dir == str(tmp_path)
        return SHARES.astype(np.float32)

    monkeypatch.setattr(human, "label_shares", shares)
    return tmp_path


def test_people_doubt_by_the_entropy_of_their_answers(folder):
    ids = np.array([3, 1, 0, 2], np.int32)
    found = asked("cifar10", folder, ids)
    assert list(found) == ["human"]
    np.testing.assert_allclose(found["human"], ENTROPY[ids], atol=1e-6)
    some = np.array([2, 3], np.int32)
    np.testing.assert_allclose(asked("cifar10", folder, some)["human"], ENTROPY[some], atol=1e-6)


def test_people_were_asked_about_cifar10_alone_and_nothing_is_downloaded(folder, tmp_path):
    everything = np.arange(4, dtype=np.int32)
    assert asked("digits", folder, everything) == {}
    assert asked("cifar10", tmp_path / "elsewhere", everything) == {}


def test_a_replica_doubts_where_its_members_disagree(folder):
    """Of four members three, all, half and three agree; those of other pipelines do not count."""
    votes = np.array([[1, 2, 3, 0], [1, 2, 3, 0], [1, 2, 4, 0], [5, 2, 4, 9]])
    members = dict(enumerate(votes))
    given = {"again": members, "prune50": {0: votes[3], 1: votes[0]}}
    found = asked("cifar10", folder, np.arange(4, dtype=np.int32), given)
    np.testing.assert_allclose(found["replica"], [0.25, 0, 0.5, 0.25])
    np.testing.assert_allclose(found["human"], ENTROPY, atol=1e-6)
