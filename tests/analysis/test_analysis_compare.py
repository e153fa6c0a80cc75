"""B - A by hand, when members are paired, and what two configs and results share."""

from itertools import chain

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rcm.analysis import compare as comparing
from rcm.analysis.compare import PAIRED, SAME, WELCH, compare, independent
from rcm.analysis.runs import Run, cautions, config_differences, pairings, shared
from rcm.analysis.statistics import PipelineInfo, holm

PIPELINES = [PipelineInfo("dense", "dense", "dense"),
             PipelineInfo("int8", "int8", "post_training", "dense", "dense")]  # fmt: skip
CONFIG = {"data": {"name": "digits", "data_seed": 0, "ratios": [1]}}
A, B = (0.5, 0.6, 0.7), (0.6, 0.7, 0.9)


def rows(values, pipeline="dense", metric="accuracy", **more):
    """Rows of one metric, a value per seed."""
    base = {"dataset": "digits", "model": "tiny", "imbalance": "exp", "ratio": 1.0,
            "pipeline": pipeline, "shift": "clean", "severity": 0.0, "metric": metric, "cls": "",
            "status": "ok", "fingerprint": f"{pipeline}{values}"}  # fmt: skip
    return [base | {"seed": seed, "value": value} | more for seed, value in enumerate(values)]


def run(*parts, **changes):
    return Run(pd.DataFrame([*chain(*parts)]), CONFIG, PIPELINES)._replace(**changes)


def only(table):
    (row,) = table.itertuples()
    return row


def test_paired_by_seed_by_hand():
    """Differences 10, 10, 20 points: sd 10 / sqrt(3), standard error 10 / 3."""
    row = only(compare(run(rows(A)), run(rows(B))))
    assert (row.test, row.n, row.n_a, row.n_b, row.unit) == (PAIRED, 3, 3, 3, "points")
    assert (row.a, row.b) == (pytest.approx(60), pytest.approx(220 / 3))
    assert row.mean == pytest.approx(40 / 3)
    assert row.hi - row.mean == pytest.approx(4.302653 * 10 / 3, rel=1e-6)
    assert row.p == row.p_holm == pytest.approx(2 * stats.t.sf(4, 2))


def test_welch_by_hand():
    """Variances 1 and 4 with n = 3 and 5: se^2 = 1/3 + 4/5, df by Welch and Satterthwaite."""
    a, b = np.array([-1.0, 0, 1]), 3 + 2 * np.array([-1, -1, 0, 1, 1.0])
    assert (a.var(ddof=1), b.var(ddof=1)) == (1, 4)
    change, p = independent(a, b)
    error = np.sqrt(1 / 3 + 4 / 5)
    degrees = (1 / 3 + 4 / 5) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 5) ** 2 / 4)
    assert change.mean == 3
    assert change.hi - 3 == pytest.approx(stats.t.ppf(0.975, degrees) * error)
    assert p == pytest.approx(2 * stats.t.sf(3 / error, degrees))


def test_welchs_interval_is_scipys():
    draw = np.random.default_rng(0)
    a, b = draw.normal(0, 1, 4), draw.normal(1, 3, 7)
    found = stats.ttest_ind(b, a, equal_var=False)
    change, p = independent(a, b)
    assert p == pytest.approx(found.pvalue)
    assert (change.lo, change.hi) == pytest.approx(tuple(found.confidence_interval()))


def test_without_spread_or_without_two_values_there_is_no_interval():
    assert independent([1, 1], [1, 1])[1] == 1
    assert np.isnan(independent([1, 1], [2, 2])[1])
    change, p = independent([0.1, 0.1, 0.1], [0.1, 0.2, 0.3])  # one side without spread
    assert change.hi - change.mean == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert p == pytest.approx(2 * stats.t.sf(np.sqrt(3), 2))
    change, p = independent([1], [2, 3])
    assert (change.mean, change.n) == (1.5, 1)
    assert np.isnan([change.lo, change.hi, p]).all()


def test_only_shared_seeds_are_paired():
    row = only(compare(run(rows(A)), run(rows((*B, 0.1, 0.2)))))
    assert (row.n, row.test) == (3, PAIRED)
    assert row.mean == pytest.approx(40 / 3)
    later = [one | {"seed": one["seed"] + 3} for one in rows(B)]
    assert only(compare(run(rows(A)), run(later))).test == WELCH


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frame": pd.DataFrame(rows(B, model="wide"))}, "networks differ"),
        ({"frame": pd.DataFrame(rows(B, dataset="cifar10"))}, "data sets differ"),
        ({"frame": pd.DataFrame(rows(B) + rows((9,) * 3, metric="train_count", cls="0"))},
         "other numbers of training images"),
        ({"config": {"data": {"name": "digits", "data_seed": 1}}}, "chosen otherwise"),
        ({"config": {"data": {"name": "cifar10"}}, "data": ""}, "data sets differ"),
        ({"data": "other"}, "data sets differ"),
    ],
)  # fmt: skip
def test_members_of_other_data_or_networks_are_not_paired(change, reason):
    a = run(rows(A) + rows((8,) * 3, metric="train_count", cls="0"), data="images")
    b = run(rows(B) + rows((8,) * 3, metric="train_count", cls="0"), data="images")
    b = b._replace(**change)
    assert reason in pairings(a, b)[0].reason
    row = only(compare(a, b))
    assert row.test == WELCH
    assert row.mean == pytest.approx(40 / 3)
    assert any(reason in note for note in cautions(a, b))


def test_what_only_changes_where_data_lie_keeps_pairs():
    """Other ratios beside the shared one, too; images count by their identity, if both have it."""
    other = {"data": {"name": "/home/me/digits.npz", "data_seed": 0, "ratios": [1, 10]}}
    a, b = run(rows(A), data="images"), run(rows(B), data="images", config=other)
    assert only(compare(a, b)).test == PAIRED
    assert cautions(a, b) == []


def test_the_same_members_are_named_and_not_counted_by_holm():
    a = run(rows(A), rows(A, "int8"))
    b = run(rows(A), rows(B, "int8"))
    table = compare(a, b).set_index(["pipeline", "quantity"])
    assert table.loc[("dense", "accuracy"), "test"] == SAME
    assert table.loc[("int8", "accuracy"), "p_holm"] == table.loc[("int8", "accuracy"), "p"]
    noisy = run(rows(A), rows(B, "int8"))
    noisy.frame.loc[noisy.frame["pipeline"] == "dense", "value"] += [0.01, 0.0, 0.02]
    assert compare(a, noisy).iloc[0]["test"] == PAIRED  # the same names with other numbers


def test_holm_runs_over_every_tested_change():
    sizes = rows((1e5, 1.1e5, 1.2e5), metric="bytes")
    a, b = (run(rows(v), rows(v[::-1], "int8"), sizes) for v in (A, B))
    b.frame.loc[b.frame["metric"] == "bytes", "value"] *= [1.1, 1.2, 1.3]
    table = compare(a, b)
    np.testing.assert_array_equal(table["p_holm"], holm(table["p"]))
    assert len(table) == 3


def test_the_other_way_round_is_the_opposite():
    parts = [rows(v) + rows(v[::-1], "int8") for v in (A, B)]
    for model in ("tiny", "wide"):
        a, b = run(parts[0]), run([one | {"model": model} for one in parts[1]])
        there, back = compare(a, b), compare(b, a)
        np.testing.assert_allclose(there["mean"], -back["mean"])
        np.testing.assert_allclose(there["lo"], -back["hi"])
        np.testing.assert_allclose(there[["p", "p_holm"]], back[["p", "p_holm"]])


def test_corruptions_that_one_run_lacks_do_not_count():
    fog = {"shift": "fog", "severity": 3.0}
    a = run(rows(A), rows((0.4, 0.5, 0.6), **fog))
    b = run(rows(B), rows((0.5, 0.5, 0.7), **fog), rows((0, 0, 0), shift="fog", severity=5.0))
    row = next(r for r in compare(a, b).itertuples() if r.quantity == "corrupted_accuracy")
    assert (row.a, row.b) == (pytest.approx(50), pytest.approx(170 / 3))


def test_an_mce_says_what_it_is_a_mean_over_and_leaves_the_extra_corruptions_out():
    """By hand: fog errs 0.6 against the parent's 0.5, which is 120; spatter would make it 160."""
    parts = [rows((0.9,) * 3), rows((0.9,) * 3, "int8")]
    for shift, parent, own in (("fog", 0.5, 0.4), ("spatter", 0.8, 0.6)):
        cell = {"shift": shift, "severity": 3.0}
        parts += [rows((parent,) * 3, **cell), rows((own,) * 3, "int8", **cell)]
    table = compare(run(*parts), run(*parts))
    row = only(table.query("quantity == 'mce' and pipeline == 'int8'"))
    assert row.a == pytest.approx(120)
    assert row.unit == "percent of the parent, mean of 1 corruption"
    corrupted = only(table.query("quantity == 'corrupted_accuracy' and pipeline == 'int8'"))
    assert (corrupted.a, corrupted.unit) == (pytest.approx(50), "points")


def test_worst_cases_over_other_attacks_are_not_compared():
    def attacked(values, *names, eps=4.0):
        more = [rows(values, metric="robust_accuracy", shift=n, severity=eps) for n in names]
        return [*rows(values), *chain(*more)]

    a = run(attacked(A, "pgd10", "worst"), attacked(A, "pgd10_l2", "worst_l2")[3:])
    b = run(attacked(B, "pgd20", "worst"), attacked(B, "pgd10_l2", "worst_l2")[3:])
    found = compare(a, b).query("quantity == 'robust_accuracy'")
    assert found[["shift", "severity"]].to_numpy().tolist() == [["worst_l2", 4.0]]
    assert "Worst cases over other attacks are not compared." in cautions(a, b)
    assert len(compare(a, a._replace(data="x")).query("quantity == 'robust_accuracy'")) == 2


def test_diverged_and_missing_members_are_left_out():
    a, b = run(rows(A)), run(rows(B))
    b.frame.loc[0, "status"] = "diverged"
    row = only(compare(a, b))
    assert (row.n, row.note) == (2, "unreliable (n = 2)")
    lone = only(compare(run(rows(A[:1])), run(rows(B[:1]))))
    assert lone.test == comparing.ALONE
    assert (lone.mean, lone.n) == (pytest.approx(10), 1)


@pytest.mark.parametrize(
    "change", [{"pipeline": "int8"}, {"ratio": 10.0}, {"status": "diverged"}, {"metric": "nll"}]
)
def test_nothing_in_common_is_one_sentence(change):
    with pytest.raises(ValueError, match="the two runs have nothing in common: expected"):
        compare(run(rows(A)), run([one | change for one in rows(B)]))


def test_configs_are_compared_by_dotted_fields_and_names():
    a = {"seeds": 3, "train": {"steps": 5, "loss": "ldam"}, "pipelines": [
        {"name": "int8", "steps": [{"type": "Quantize", "bits": 8}]},
        {"name": "old", "type": "Pipeline"}]}  # fmt: skip
    b = {"seeds": 3, "train": {"steps": 6, "loss": "ldam"}, "pipelines": [
        {"name": "new", "type": "Pipeline"},
        {"name": "int8", "steps": [{"type": "Quantize", "bits": 4}]}]}  # fmt: skip
    assert config_differences(a, b) == [
        ("train.steps", "5", "6"),
        ("pipelines.int8.steps.0.bits", "8", "4"),
        ("pipelines.old", "Pipeline", "absent"),
        ("pipelines.new", "absent", "Pipeline"),
    ]
    assert config_differences(a, a) == []
    attacks = [{"name": "pgd", "type": "Attack"}]
    found = config_differences({"attacks": [], "ratios": [1]}, {"attacks": attacks, "ratios": [2]})
    assert found == [("attacks.pgd", "absent", "Attack"), ("ratios", "[1]", "[2]")]


def test_what_both_have_and_what_one_lacks():
    a, b = run(rows(A), rows(A, "int8")), run(rows(A), rows(A, ratio=10.0))
    found = shared(a, b)
    assert found["pipelines"] == (["dense"], ["int8"], [])
    assert found["ratios"] == (["1"], [], ["10"])


def test_other_shifted_images_are_a_caution():
    fog = rows(A, shift="fog", severity=3.0)
    a, b = (
        run(rows(A), fog, config={**CONFIG, "shift": {"images": n, "cache": n > 5}}) for n in (5, 9)
    )
    assert any("(shift.images differ)" in note for note in cautions(a, b))
    a, b = (one._replace(frame=one.frame[one.frame["shift"] == "clean"]) for one in (a, b))
    assert cautions(a, b) == []
