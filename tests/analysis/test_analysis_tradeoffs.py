"""Fronts against a published table, by hand, and how sure resampled seeds are of them."""

import itertools

import moocore
import numpy as np
import pandas as pd
import pytest

from rcm.analysis import tradeoffs
from rcm.analysis.resampling import drawn_seeds
from rcm.analysis.statistics import PipelineInfo
from rcm.analysis.tradeoffs import (
    Values,
    best_under,
    budgets,
    by_block,
    fronts,
    hypervolume,
    in_box,
    knee,
    membership,
    objectives,
    on_front,
    resampled,
    volumes,
)

SMALL_AND_GOOD = np.array([False, True])
INFOS = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("half", "half", "trained", "dense", "dense"),
    PipelineInfo("tiny", "tiny", "trained", "dense", "dense"),
]


def test_the_front_of_a_published_table_is_the_published_one(published_table):
    """S3's claim C6, over its three networks on CIFAR-10; the rounding of mCE decides it."""
    table = published_table[published_table["dataset"] == "cifar10"]
    points = table[["compression_ratio", "mCE", "clean_acc"]].to_numpy()
    front = table[on_front(points, np.array([True, False, True]))]
    assert set(zip(front["model"], front["type"], strict=True)) == {
        ("resnet50", "PQAT"), ("resnet50", "PQAT + Int8"), ("resnet50", "PCQAT + Int8"),
        ("vgg19", "Pruning+Clustering + Int8"), ("vgg19", "PCQAT + Int8"),
    }  # fmt: skip


def test_equal_points_share_the_front_and_a_worse_one_is_not_there():
    points = np.array([[4, 0.9], [2, 0.8], [2, 0.8], [3, 0.8], [1, 0.5], [5, 0.89]])
    assert on_front(points, SMALL_AND_GOOD).tolist() == [True, True, True, False, True, False]


def values(*accuracy, sizes=(100.0, 50.0)):
    """Two pipelines, their accuracies by seed."""
    columns = [np.full(len(a), s) for a, s in zip(accuracy, sizes, strict=True)]
    both = np.stack([np.stack(columns), np.array(accuracy)], axis=-1)
    return Values(["large", "small"], ["bytes", "accuracy"], SMALL_AND_GOOD, both)


def test_membership_is_the_share_of_all_resampled_studies():
    """The larger one is there where its mean over three drawn seeds is above the other's."""
    large, small = (0.70, 0.75, 0.61), (0.71, 0.70, 0.66)
    _, share = membership(values(large, small))
    drawn = np.array(list(itertools.product(range(3), repeat=3)))
    above = np.array(large)[drawn].mean(1) > np.array(small)[drawn].mean(1)
    expected = above.mean()
    assert 0.2 < expected < 0.8
    assert share[0] == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(tradeoffs.DRAWS))
    assert share[1] == 1


def test_resampled_means_are_those_of_the_drawn_seeds_and_equal_ones_stay_equal():
    """Bit by bit, or rounding decides between pipelines that are the same."""
    each = np.random.default_rng(0).random((5, 40, 3))
    each[4] = each[1]
    drawn = drawn_seeds(40)
    found = resampled(each)
    np.testing.assert_allclose(found, each[:, drawn].mean(2).transpose(1, 0, 2), rtol=1e-13)
    np.testing.assert_array_equal(found[:, 4], found[:, 1])


def test_rounding_lifts_nobody_onto_the_front():
    assert 0.1 + 0.2 > 0.3  # in float64
    assert membership(values([0.1 + 0.2] * 3, [0.3] * 3))[1].tolist() == [0, 1]


def test_what_seeds_share_makes_nobody_unsure():
    luck = np.array([-0.2, 0.0, 0.15, 0.3])
    means, share = membership(values(0.6 + luck, 0.61 + luck))
    assert means.tolist() == [False, True]
    assert share.tolist() == [0, 1]


def test_a_single_seed_says_nothing_about_shares():
    means, share = membership(values([0.7], [0.6]))
    assert means.all()
    assert np.isnan(share).all()
    assert np.isnan(hypervolume(values([0.7], [0.6]))[1:]).all()


def three(middle_size, middle):
    """Ends of the front at (size 1, accuracy 0) and (4, 1), and one between them."""
    points = np.array([[4, 1.0], [middle_size, middle], [1, 0.0]])
    found = np.repeat(points[:, None], 2, axis=1)
    return Values(["a", "b", "c"], ["bytes", "accuracy"], SMALL_AND_GOOD, found)


def test_hypervolume_and_knee_by_hand():
    """Halfway between sizes 4 and 1 by logarithm is 2: the corner at (0.5, 0.8) covers 0.4."""
    found = three(2, 0.8)
    np.testing.assert_allclose(in_box(found.values.mean(1), found), [[0, 1], [0.5, 0.8], [1, 0]])
    assert hypervolume(found) == pytest.approx((0.4, 0.4, 0.4))
    assert knee(found) == "b"
    beaten = three(4, 0.9)  # as large as the first, and worse
    assert knee(beaten) in ("a", "c")


def rows(seed, pipeline, ratio, **metrics):
    where = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": ratio, "seed": seed}
    return [
        where | {"pipeline": pipeline, "shift": "clean", "severity": 0.0, "metric": metric,
                 "cls": "", "value": value, "status": "ok"}
        for metric, value in metrics.items()
    ]  # fmt: skip


@pytest.fixture
def frame():
    """`half` is as good as dense and half the size; `tiny` is better in the tail alone."""
    made = []
    for seed, ratio in itertools.product(range(3), (1.0, 100.0)):
        made += rows(seed, "dense", ratio, bytes=1000, accuracy=0.8, recall_tail=0.3)
        made += rows(seed, "half", ratio, bytes=500, accuracy=0.8, recall_tail=0.3)
        made += rows(seed, "tiny", ratio, bytes=120, accuracy=0.6 + seed / 100, recall_tail=0.4)
    return pd.DataFrame(made)


def test_tables_of_a_study(frame):
    table = objectives(frame, INFOS)
    assert list(table.columns) == ["bytes", "accuracy", "recall_tail"]
    assert table["recall_tail"].isna().sum() == 9  # at ratio 1 no class is rare
    found = fronts(table, INFOS)
    assert set(found["objectives"]) == {"accuracy", "recall_tail", "all"}
    long_tail = found[found["ratio"] == 100].set_index(["objectives", "pipeline"])["on_front"]
    assert not long_tail["accuracy", "dense"]
    assert long_tail["accuracy", "half"]
    assert long_tail["recall_tail"].to_dict() == {"dense": False, "half": False, "tiny": True}
    found = best_under(table, INFOS)
    in_kib = found[found["times"].isna() & (found["objective"] == "accuracy")]
    by_size = in_kib[in_kib["ratio"] == 1].set_index("kib")["pipeline"]
    assert by_size.to_dict() == {0.125: "tiny", 0.25: "tiny", 0.5: "half"}
    best = found[found["times"].notna()].set_index(["ratio", "objective", "times"])
    assert best.loc[(1.0, "accuracy", 2), "pipeline"] == "half"
    assert best.loc[(1.0, "accuracy", 8), "pipeline"] == "tiny"
    assert best.loc[(1.0, "accuracy", 8), "value"] == pytest.approx(0.61)
    assert (1.0, "accuracy", 16) not in best.index  # nothing is that small
    assert best.loc[(100.0, "recall_tail", 2), "pipeline"] == "tiny"
    covered = volumes(table).set_index(["ratio", "objectives"])
    assert covered.loc[(100.0, "recall_tail"), "mean"] == 1  # one is best in both
    # half: (log 2 / log 8.33, 1, 0), tiny: (1, 0, 1), dense: (0, 1, 0); no box has all three
    assert covered.loc[(100.0, "all"), "mean"] == 0


def test_the_volume_under_three_objectives_by_hand():
    """Corners (1, 0.5, 0.5), (0.5, 1, 0.5) and (0.5, 0.5, 1) of the box, which (0, 0, 0) spans:
    each covers 1 / 4, any two and all three have 1 / 8 in common, so 3 / 4 - 3 / 8 + 1 / 8."""
    columns = ["accuracy", "recall_tail", "corrupted_accuracy"]
    points = np.array([[2.0, 1, 1], [1, 2, 1], [1, 1, 2], [0, 0, 0]])
    seeds = np.repeat(points[:, None], 3, axis=1)
    found = Values(["a", "b", "c", "d"], columns, np.ones(3, bool), seeds)
    assert hypervolume(found) == pytest.approx((0.5, 0.5, 0.5))


def test_every_resampled_study_has_its_own_box():
    found = values((0.9, 0.7, 0.8, 0.6), (0.5, 0.8, 0.6, 0.7))
    shares = [
        moocore.hypervolume(in_box(points, found), ref=[0, 0], maximise=True)
        for points in resampled(found.values)
    ]
    assert len(set(shares)) > 1
    assert hypervolume(found)[1:] == pytest.approx(np.percentile(shares, (2.5, 97.5)))


def test_budgets_in_kib_are_powers_of_two_between_the_sizes_at_hand():
    sizes = 1024 * np.array([100.0, 30.0, 9.0])
    assert budgets(sizes, 1024 * 100.0)[:4] == [(t, 1024 * 100 / t) for t in (2, 4, 8, 16)]
    assert [most / 1024 for _, most in budgets(sizes, np.nan)] == [16, 32, 64]
    assert budgets(sizes[:1], np.nan) == []  # one size leaves no choice
    assert [most / 1024 for _, most in budgets(1024 * np.array([8.0, 32.0]), np.nan)] == [8, 16]


def test_a_lost_member_takes_its_seed_along_and_no_more(frame):
    lost = frame[~((frame["pipeline"] == "tiny") & (frame["seed"] == 2))]
    assert set(fronts(objectives(lost, INFOS), INFOS)["n"]) == {2}
    without = frame[frame["pipeline"] != "tiny"]
    assert set(fronts(objectives(without, INFOS), INFOS)["pipeline"]) == {"dense", "half"}
    sizes = objectives(frame[frame["metric"] == "bytes"], INFOS)
    assert fronts(sizes, INFOS).empty


def test_multiply_accumulates_are_traded_where_pipelines_differ_in_them(frame):
    """`half` lost filters, `tiny` only weights, whose zeros dense hardware computes as well."""
    macs = {"dense": 100.0, "half": 60.0, "tiny": 100.0}
    counts = frame[frame["metric"] == "bytes"].assign(
        metric="macs", value=lambda rows: rows["pipeline"].map(macs)
    )
    table = objectives(pd.concat([frame, counts]), INFOS)
    assert list(table.columns) == ["bytes", "macs", "accuracy", "recall_tail"]
    found = fronts(table, INFOS).set_index(["ratio", "objectives", "pipeline"]).sort_index()
    assert found.loc[1.0, "macs"]["on_front"].to_dict() == {
        "dense": False, "half": True, "tiny": False,
    }  # fmt: skip
    assert found.loc[(1.0, "all"), "on_front"].to_dict() == {
        "dense": False, "half": True, "tiny": True,
    }  # fmt: skip
    covered = volumes(table).set_index(["ratio", "objectives"])
    assert covered.loc[(1.0, "macs"), "mean"] == 1
    assert set(best_under(table, INFOS)["objective"]) == {"accuracy", "recall_tail"}
    for named in (["macs", "accuracy", "bytes"], ["macs", "mce"]):
        title = "+".join(named)
        own = fronts(table, INFOS, named)
        assert (title in set(own["objectives"])) == (
            title in set(volumes(table, named)["objectives"])
        )
        rest = own[own["objectives"] != title].reset_index(drop=True)
        pd.testing.assert_frame_equal(rest, fronts(table, INFOS))
        if named == ["macs", "mce"]:  # the study has no corruption
            assert len(rest) == len(own)
            continue
        points = by_block(table, named)
        for key, found in points.items():
            at = own[(own["objectives"] == title) & (own["ratio"] == key[-1])]
            front = on_front(found.values.mean(1), np.array([False, True, False]))
            assert dict(zip(found.pipelines, front, strict=True)) == dict(
                zip(at["pipeline"], at["on_front"], strict=True)
            )
    chosen = by_block(table, ["macs", "accuracy", "recall_tail"])  # any that are named
    means, _ = membership(chosen["d", "m", "exp", 100.0])
    assert means.tolist() == [False, True, True]
    same = pd.concat([frame, counts.assign(value=100.0)])
    assert "macs" not in objectives(same, INFOS)


def test_the_published_front_trades_size_mce_and_accuracy_and_counts_no_error_twice(frame):
    """`half` halves the size and is as accurate, with more errors under fog than dense; `tiny` is
    worse in both. An extra corruption moves corrupted accuracy alone."""
    lost = {"dense": 0.1, "half": 0.2, "tiny": 0.4}
    extra = {"dense": 0.1, "half": 0.9, "tiny": 0.1}
    clean = frame[frame["metric"] == "accuracy"]
    shifted = [
        clean.assign(shift=shift, severity=3.0, value=0.9 - clean["pipeline"].map(by))
        for shift, by in (("fog", lost), ("speckle_noise", extra))
    ]
    table = objectives(pd.concat([frame, *shifted]), INFOS)
    mce = table["mce"].groupby("pipeline").mean()
    assert mce.to_dict() == pytest.approx({"dense": 100, "half": 150, "tiny": 250})
    found = fronts(table, INFOS)
    published = found[(found["objectives"] == "mce") & (found["ratio"] == 1)]
    assert published.set_index("pipeline")["on_front"].to_dict() == {
        "dense": True, "half": True, "tiny": True,
    }  # fmt: skip
    worse = table.assign(bytes=table["bytes"].mask(table["bytes"] == 120, 600))
    beaten = fronts(worse, INFOS)
    beaten = beaten[(beaten["objectives"] == "mce") & (beaten["ratio"] == 1)]
    assert not beaten.set_index("pipeline")["on_front"]["tiny"]
    assert "mce" not in set(best_under(table, INFOS)["objective"])
    without = objectives(pd.concat([frame, *shifted]), INFOS).drop(columns="mce")
    every = [fronts(one, INFOS).query("objectives == 'all'") for one in (table, without)]
    pd.testing.assert_frame_equal(*(one.reset_index(drop=True) for one in every))
