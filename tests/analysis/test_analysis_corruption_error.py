"""Corruption error in the published layout, by hand, and over which corruptions a mean is."""

import numpy as np
import pandas as pd
import pytest

from rcm.analysis.corruption import corruption_errors, corruption_summary
from rcm.analysis.corruption_error import BENCHMARK, EVERY, EXTRA, corruption_error
from rcm.analysis.estimands_corruption import gains_over_parent
from rcm.analysis.measured import Measured
from rcm.analysis.statistics import PipelineInfo
from rcm.shift import corruptions

FOG_SNOW = ("fog", "snow")
MODEL = [[0.30, 0.50, 0.61], [0.15, 0.20, 0.25]]
PARENT = [[0.20, 0.40, 0.57], [0.20, 0.30, 0.40]]
PIPELINES = [
    PipelineInfo("dense", "dense", "dense"),
    PipelineInfo("prune", "prune", "trained", "dense", "dense"),
]


def two(rounded=False, **changed):
    given = {"errors": MODEL, "reference": PARENT, "clean": 0.11, "clean_reference": 0.12}
    named = {"over": FOG_SNOW, "rounded": rounded, "against": "dense parent"}
    return corruption_error(FOG_SNOW, **(given | changed), **named)


def test_the_named_corruptions_are_the_benchmarks():
    assert BENCHMARK == corruptions.BENCHMARK
    assert tuple(corruptions.CORRUPTIONS) == EVERY
    assert len(BENCHMARK) == 15
    assert len(EXTRA) == 4


def test_errors_and_their_means_by_hand():
    found = two()
    ce = [100 * 1.41 / 1.17, 100 * 0.60 / 0.90]  # 120.51, 66.67
    relative = [100 * (1.41 - 0.33) / (1.17 - 0.36), 100 * (0.60 - 0.33) / (0.90 - 0.36)]
    np.testing.assert_allclose(found.ce, ce)
    np.testing.assert_allclose(found.relative_ce, relative)  # 133.33, 50
    assert found.mce == pytest.approx(sum(ce) / 2)
    assert found.relative_mce == pytest.approx(sum(relative) / 2)


def test_the_published_rounding_rounds_every_corruption_before_the_mean():
    """(121 + 67) / 2 is 94, where 93.6 would be the rounded mean."""
    found = two(rounded=True)
    assert found.ce.tolist() == [121, 67]
    assert found.mce == 94.0
    assert round(two().mce, 1) == 93.6
    assert found.relative_ce.tolist() == [133, 50]
    assert found.relative_mce == 91.5
    three = corruption_error(
        ("a", "b", "c"), [[0.1], [0.1], [0.2]], [[0.3], [0.3], [0.3]], 0, 0, ("a", "b", "c"), True,
        against="AlexNet",
    )  # fmt: skip
    assert three.mce == 44.3  # (33 + 33 + 67) / 3 to one decimal


def test_a_result_says_against_what_it_is_and_whether_it_is_rounded():
    assert two().title == "mCE against dense parent, unrounded, 2 corruptions"
    assert (
        two(rounded=True).title == "mCE against dense parent, rounded as published, 2 corruptions"
    )
    fifteen = corruption_error(
        BENCHMARK, *np.full((2, 15, 1), 0.5), 0.1, 0.1, against="dense parent"
    )
    assert fifteen.title == "mCE against dense parent, unrounded, the benchmark's 15 corruptions"


def test_mce_stands_against_the_baseline_beside_the_parent():
    """The control errs twice as often as the parent: half of the parent's mCE."""
    frame = study(BENCHMARK)
    dense = frame[frame["pipeline"] == "dense"]
    frame.loc[dense.index, "value"] = 0.7
    control = dense.assign(pipeline="control", value=0.4)
    control.loc[control["shift"] == "clean", "value"] = 0.9
    given = [
        PIPELINES[0],
        PipelineInfo("control", "control", "control", "dense", "dense"),
        PipelineInfo("prune", "prune", "trained", "control", "dense"),
    ]
    _, overall, _ = corruption_summary(pd.concat([frame, control]), given)
    found = overall.set_index(["pipeline", "quantity", "baseline"])
    one, two = (found.loc[("prune", "mce", other)] for other in ("dense", "control"))
    assert two["mean"] == pytest.approx(one["mean"] / 2)
    assert one["unit"].startswith("percent of the parent, unrounded")
    assert two["unit"].startswith("percent of the baseline, unrounded")
    assert ("prune", "relative_mce", "control") in found.index
    assert ("control", "mce", "dense") in found.index  # whose baseline is its parent, once
    assert found.index.is_unique


def test_a_reference_of_itself_is_100_and_a_missing_denominator_is_left_out():
    same = two(errors=PARENT, clean=0.12)
    assert (same.mce, same.relative_mce) == pytest.approx((100, 100))
    perfect = two(reference=[PARENT[0], [0, 0, 0]])
    assert np.isnan(perfect.ce[1])
    assert perfect.mce == pytest.approx(perfect.ce[0])
    unhurt = two(clean_reference=0.3)  # snow costs the reference nothing
    assert np.isnan(unhurt.relative_ce[1])
    assert unhurt.relative_mce == pytest.approx(unhurt.relative_ce[0])


def test_means_are_over_the_corruptions_that_are_named():
    rng = np.random.default_rng(0)
    model, parent = rng.uniform(0.2, 0.6, (2, 19, 5))
    fifteen = corruption_error(EVERY, model, parent, 0.1, 0.1, against="dense")
    nineteen = corruption_error(EVERY, model, parent, 0.1, 0.1, EVERY, against="dense")
    assert fifteen.corruptions == BENCHMARK
    assert fifteen.mce == pytest.approx(np.mean(100 * model[:15].sum(1) / parent[:15].sum(1)))
    assert nineteen.mce == pytest.approx(np.mean(100 * model.sum(1) / parent.sum(1)))
    backwards = corruption_error(EVERY[::-1], model[::-1], parent[::-1], 0.1, 0.1, against="dense")
    np.testing.assert_allclose(backwards.ce, fifteen.ce)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"errors": MODEL[:1]}, "one row of severities per corruption"),
        ({"errors": 100 * np.array(MODEL)}, "divide percent by 100"),
        ({"clean": np.nan}, "fractions from 0 to 1"),
    ],
)
def test_other_arrays_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        two(**changed)


def test_corruptions_without_errors_are_named():
    with pytest.raises(ValueError, match="no errors under frost, glass"):
        corruption_error(
            FOG_SNOW, MODEL, PARENT, 0.1, 0.1, ("fog", "glass", "frost"), against="dense"
        )


def study(names, seeds=2):
    """Random accuracies of a dense and a pruned member per seed, at two severities."""
    rng = np.random.default_rng(0)
    keys = ["seed", "pipeline", "shift", "severity", "value"]
    rows = [
        (seed, pipeline, shift, float(severity), 0.9 if shift == "clean" else rng.uniform(0.3, 0.7))
        for seed in range(seeds)
        for pipeline in ("dense", "prune")
        for shift in ("clean", *names)
        for severity in ((0,) if shift == "clean" else (1, 5))
    ]
    more = {"dataset": "d", "model": "m", "imbalance": "exp", "ratio": 1.0, "cls": ""}
    return pd.DataFrame(rows, columns=keys).assign(**more, metric="accuracy")


def quantities(frame):
    _, overall, _ = corruption_summary(frame, PIPELINES)
    own = overall[overall["pipeline"] == "prune"].set_index("quantity")
    return own[own.index.str.contains("mce")]


def unrounded(frame):
    found = quantities(frame)
    return found[~found.index.str.contains("rounded")]


def test_the_table_of_a_study_has_the_published_numbers():
    frame = study(BENCHMARK)
    rates = 1 - frame.pivot(index="shift", columns=["seed", "pipeline", "severity"], values="value")
    rates = rates.sort_index(axis="columns")
    errors = corruption_errors(frame, PIPELINES).sort_index()
    for seed in (0, 1):
        model, parent = (rates.loc[list(BENCHMARK), (seed, name)] for name in ("prune", "dense"))
        found = corruption_error(
            BENCHMARK, model[[1, 5]], parent[[1, 5]], 0.1, 0.1, against="dense"
        )
        own = errors.loc[("d", "m", "exp", 1.0, seed, "prune")].reindex(list(BENCHMARK))
        np.testing.assert_allclose(own["ce"], found.ce)
        np.testing.assert_allclose(own["relative_ce"], found.relative_ce)


def test_the_rounded_means_of_a_study_are_those_of_the_published_formula():
    frame = study(BENCHMARK)
    rates = 1 - frame.pivot(index="shift", columns=["seed", "pipeline", "severity"], values="value")
    found = quantities(frame)
    assert found.loc["mce_rounded", "unit"].startswith(
        "percent of the parent, rounded as published"
    )
    for name in ("mce", "relative_mce"):
        published = []
        for seed in (0, 1):
            model, parent = (
                rates.sort_index(axis="columns").loc[list(BENCHMARK), (seed, pipeline)][[1, 5]]
                for pipeline in ("prune", "dense")
            )
            own = corruption_error(
                BENCHMARK, model, parent, 0.1, 0.1, rounded=True, against="dense"
            )
            published.append(getattr(own, name))
        assert found.loc[f"{name}_rounded", "mean"] == pytest.approx(np.mean(published))


def test_means_over_fifteen_and_nineteen_are_told_apart():
    alone, both = unrounded(study(BENCHMARK)), unrounded(study(EVERY))
    assert list(alone.index) == ["mce", "relative_mce"]
    assert set(alone["unit"]) == {
        "percent of the parent, unrounded, mean of the benchmark's 15 corruptions"
    }
    assert set(both.index) == {"mce_15", "relative_mce_15", "mce_19", "relative_mce_19"}
    assert both.loc["mce_19", "unit"].endswith("mean of 19 corruptions")
    ce = corruption_errors(study(EVERY), PIPELINES)["ce"].xs("prune", level="pipeline")
    ce = ce.unstack("shift")
    assert both.loc["mce_15", "mean"] == pytest.approx(ce[list(BENCHMARK)].mean(axis=1).mean())
    assert both.loc["mce_19", "mean"] == pytest.approx(ce.mean(axis=1).mean())
    some = unrounded(study(("fog", "saturate")))
    assert list(some.index) == ["mce", "relative_mce"]
    assert set(some["unit"]) == {"percent of the parent, unrounded, mean of 2 corruptions"}


def test_published_claims_are_about_the_benchmark():
    """The extra corruptions, which hurt the pruned member far more, do not count."""
    frame = study(EVERY)
    worse = frame["shift"].isin(EXTRA) & (frame["pipeline"] == "prune")
    frame.loc[worse, "value"] = 0.01
    within = frame[~frame["shift"].isin(EXTRA)]
    every, published = (gains_over_parent(Measured(part, PIPELINES)) for part in (frame, within))
    np.testing.assert_allclose(every.points, published.points)
