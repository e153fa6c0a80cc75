"""The claims of "Evaluating the Impact of Compression Techniques on the Robustness of CNNs under
Natural Corruptions" (arXiv 2512.24971), protocol S3, as estimands on the results table.

Evidence is one number per seed: the mean over the study's blocks and ratios; seeds that lack a
member of the comparison are left out. mCE is in percent of the same network's dense parent of the
same seed. The published comparisons mix compression with more training and with clean accuracy, so
C1 and C8 also stand against a dense network of the same budget and at matched clean error.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.claims import Claim, Evidence, differing
from rcm.analysis.contrasts import chosen_by_others
from rcm.analysis.measured import Measured
from rcm.analysis.published import REPORTED
from rcm.analysis.statistics import COMPRESSED, PipelineInfo, by_seed, per_seed, wide
from rcm.analysis.tradeoffs import on_front

SOURCE = "arXiv 2512.24971"
CONTROL = f"confound control of {SOURCE}"
SAME = 0.5  # by which what is the same may differ (protocols)
COLLAPSE = 12.0  # the smallest published rise of mCE by int8 after quantization-aware training
RESTATES = 0.9  # a correlation by which four fifths of the one's variance are the other's
KEPT = 0.7  # the largest published change of mCE by int8 behind clusters, zeros or both
Pipelines = Sequence[PipelineInfo]


def gains_over_parent(measured: Measured) -> Evidence | None:
    """C1a: mCE - 100 of the best compressed pipeline, which the other seeds choose."""
    values = per_seed(measured.corrupted["mce"])
    chosen = values[_compressed(values, measured.pipelines)].dropna()
    return chosen_by_others(chosen - 100, largest=False)


def gains_over_control(measured: Measured) -> Evidence | None:
    """C1b: corrupted accuracy beyond the primary baseline's of the best one, chosen alike."""
    values = per_seed(measured.corrupted["corrupted_accuracy"])
    return chosen_by_others(_against_baseline(values, measured.pipelines), largest=True)


def gains_at_clean_error(measured: Measured) -> Evidence | None:
    """C1c: effective robustness beyond the primary baseline's of the best one, chosen alike."""
    values = per_seed(measured.above_line)
    return chosen_by_others(_against_baseline(values, measured.pipelines), largest=True)


def quantized_alone(measured: Measured) -> Evidence | None:
    """C3: mCE - 100 of integers after training."""
    return _mean(_mce(measured, [("quantize",)]) - 100)


def conversion_after_qat(measured: Measured) -> Evidence | None:
    """C4: what int8 adds to the mCE of quantization-aware training."""
    return _mean(_converted(measured, [("qat",)]))


def worst_of_clustering(measured: Measured) -> Evidence | None:
    """C5: mCE - 100 of the worst of clustering and pruning with clustering, which the other seeds
    choose; what int8 behind them adds is no part of the claim (published: to 109.3)."""
    kinds = [("cluster",), ("prune", "cluster")]
    return chosen_by_others(_mce(measured, kinds) - 100, largest=True)


def combined_on_front(measured: Measured) -> Evidence | None:
    """C6: the share of pipelines of several techniques on the front of compression ratio, mCE and
    accuracy, in percent, minus 50."""
    mce = by_seed(measured.corrupted["mce"])
    parts = [mce, *(by_seed(wide(measured.rows, m)) for m in ("compression_ratio", "accuracy"))]
    several = {p.name for p in measured.pipelines if len(p.techniques) > 1}
    names = [name for name in mce if all(name in part for part in parts)]
    seeds = sorted(set.intersection(*(set(part.index) for part in parts)))
    if not seeds or not several & set(names):
        return None
    points = np.stack([part.loc[seeds, names].to_numpy() for part in parts], axis=-1)
    combined = np.array([name in several for name in names])
    larger = np.array([False, True, True])
    shares = [combined[on_front(of_seed, larger)].mean() for of_seed in points]
    return Evidence(100 * np.array(shares) - 50)


def conversion_behind_structure(measured: Measured) -> Evidence | None:
    """C7: the largest change of mCE by int8 behind training with clusters, zeros or both."""
    kinds = [("cluster", "qat"), ("prune", "qat"), ("prune", "cluster", "qat")]
    changes = _converted(measured, kinds).abs()
    return Evidence(changes.max(axis=1).to_numpy()) if changes.size else None


def restates_clean_error(measured: Measured) -> Evidence | None:
    """C9: Pearson's r of mCE and of clean error in percent of the parent's, over the compressed
    pipelines of a seed; needs three."""
    errors = 1 - wide(measured.rows, "accuracy")
    ratio = {
        p.name: 100 * errors[p.name] / errors[p.parent].where(errors[p.parent] > 0)
        for p in measured.pipelines
        if p.kind in COMPRESSED and {p.name, p.parent} <= set(errors.columns)
    }
    clean = per_seed(pd.DataFrame(ratio).rename_axis(columns="pipeline"))
    mce = per_seed(measured.corrupted["mce"])
    names = [name for name in clean if name in mce]
    if len(names) < 3:
        return None
    both = pd.concat({"clean": clean[names], "mce": mce[names]}, axis="columns").dropna()
    return Evidence(both["clean"].corrwith(both["mce"], axis="columns").to_numpy())


def differ_in(quantity: str) -> Callable[[Measured], Evidence | None]:
    """C8: do the compressed pipelines' `quantity` differ?"""

    def estimate(measured: Measured) -> Evidence | None:
        if quantity == "effective_robustness":
            values = per_seed(measured.above_line)
        else:
            values = per_seed(measured.corrupted[quantity])
        own = values[_compressed(values, measured.pipelines)].dropna()
        return differing(own, measured.pipelines, "value")

    return estimate


def _compressed(values: pd.DataFrame, pipelines: Pipelines) -> list[str]:
    return [p.name for p in pipelines if p.kind in COMPRESSED and p.name in values]


def _against_baseline(values: pd.DataFrame, pipelines: Pipelines) -> pd.DataFrame:
    pairs = {p.name: p.baseline for p in pipelines if p.kind in COMPRESSED}
    known = {name: base for name, base in pairs.items() if name in values and base in values}
    differences = {name: values[name] - values[base] for name, base in known.items()}
    return pd.DataFrame(differences).dropna()


def _mce(measured: Measured, kinds: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    values = per_seed(measured.corrupted["mce"])
    names = [p.name for p in measured.pipelines if p.techniques in kinds and p.name in values]
    return values[names].dropna()


def _converted(measured: Measured, kinds: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """mCE of pipelines that end in int8 minus those of the same techniques without it."""
    values = per_seed(measured.corrupted["mce"])
    found = {p.techniques: p.name for p in measured.pipelines if p.name in values}
    known = [kind for kind in kinds if {kind, (*kind, "quantize")} <= set(found)]
    pairs = {str(kind): (found[kind], found[*kind, "quantize"]) for kind in known}
    return pd.DataFrame({kind: values[b] - values[a] for kind, (a, b) in pairs.items()}).dropna()


def _mean(values: pd.DataFrame) -> Evidence | None:
    return Evidence(values.mean(axis=1).to_numpy()) if values.size else None


LACKING = "the study lacks the configurations of S3 that it takes"
UNIT = "percent of the parent's error"
CORRUPTION_CLAIMS = (
    Claim(
        "C1a",
        "Some compression strategies improve robustness.",
        SOURCE,
        "mCE - 100 of the best compressed pipeline, chosen by the other seeds.",
        gains_over_parent,
        direction="less",
        unit=UNIT,
        published=REPORTED["C1a"],
        figure="corruptions",
    ),
    Claim(
        "C1b",
        "They do against a dense network with the same further steps.",
        CONTROL,
        "Corrupted accuracy of the best compressed pipeline, chosen by the other seeds, minus its "
        "primary baseline's.",
        gains_over_control,
        figure="results",
    ),
    Claim(
        "C1c",
        "They do at matched clean error.",
        CONTROL,
        "Effective robustness of the best compressed pipeline, chosen by the other seeds, minus "
        "its primary baseline's.",
        gains_at_clean_error,
        untested="the study has fewer than five dense networks of different accuracy",
        figure="effective_robustness",
    ),
    Claim(
        "C2",
        "More complex networks gain more.",
        SOURCE,
        "mCE - 100 against the size of the network.",
        None,
        untested="a study has one network",
        published=REPORTED["C2"],
        figure="published-numbers",
    ),
    Claim(
        "C3",
        "Quantization after training alone gives no gain.",
        SOURCE,
        "mCE - 100 of int8 of the dense parent, within half a percent.",
        quantized_alone,
        direction="same",
        margin=SAME,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C3"],
        figure="corruptions",
    ),
    Claim(
        "C4",
        "Int8 conversion of a network trained with quantization collapses.",
        SOURCE,
        "mCE after the conversion minus before, beyond 12.",
        conversion_after_qat,
        margin=COLLAPSE,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C4"],
        figure="corruptions",
    ),
    Claim(
        "C5",
        "Clustering, also of pruned networks, never hurts.",
        SOURCE,
        "mCE - 100 of the worse of clustering and pruning with clustering, chosen by the other "
        "seeds, at most half a percent.",
        worst_of_clustering,
        direction="less",
        margin=-SAME,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C5"],
        figure="corruptions",
    ),
    Claim(
        "C6",
        "Combined pipelines form the Pareto front.",
        SOURCE,
        "Their share of the front of compression ratio, mCE and accuracy, beyond one half.",
        combined_on_front,
        unit="percent of the front beyond half",
        untested=LACKING,
        published=REPORTED["C6"],
        figure="trade-offs",
    ),
    Claim(
        "C7",
        "Int8 behind training with clusters, zeros or both changes next to nothing.",
        SOURCE,
        "The largest of the three changes of mCE, at most 0.7.",
        conversion_behind_structure,
        direction="less",
        margin=-KEPT,
        unit=UNIT,
        untested=LACKING,
        published=REPORTED["C7"],
        figure="corruptions",
    ),
    *(
        Claim(
            name,
            f"Compression techniques differ in {words}.",
            source,
            "Friedman test of the compressed pipelines, seeds as blocks; the effect is the spread "
            "between their means.",
            differ_in(quantity),
            direction="any",
            unit=f"{unit} between the extremes",
            untested=untested,
            published=REPORTED.get(name, ""),
            figure=figure,
        )
        for name, words, quantity, unit, source, untested, figure in (
            ("C8a", "robustness, by mCE", "mce", "percent", SOURCE, LACKING, "corruptions"),
            (
                "C8b", "robustness, by relative mCE", "relative_mce", "percent", CONTROL, LACKING,
                "corruptions",
            ),
            (
                "C8c", "robustness at matched clean error", "effective_robustness", "points",
                CONTROL, "the study has fewer than five dense networks", "effective_robustness",
            ),
        )
    ),
    Claim(
        "C9",
        "mCE almost restates clean error.",
        CONTROL,
        "Correlation of mCE with clean error relative to the parent's, over the compressed "
        "pipelines of a seed, beyond 0.9.",
        restates_clean_error,
        margin=RESTATES,
        unit="correlation",
        untested="the study has fewer than three compressed pipelines, or no corruptions",
        published=REPORTED["C9"],
        figure="results",
    ),
)  # fmt: skip
