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
from rcm.analysis.corruption import accuracies, corruption_errors, over_shifts
from rcm.analysis.corruption_error import EXTRA
from rcm.analysis.effective import above_line
from rcm.analysis.statistics import COMPRESSED, PipelineInfo, by_seed, usable, wide
from rcm.analysis.tradeoffs import on_front

SOURCE = "arXiv 2512.24971"
SAME = 0.5  # by which what is the same may differ (protocols)
COLLAPSE = 12.0  # the smallest published rise of mCE by int8 after quantization-aware training
KEPT = 0.7  # the largest published change of mCE by int8 behind clusters, zeros or both
Frame = pd.DataFrame
Pipelines = Sequence[PipelineInfo]


def gains_over_parent(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C1a: mCE - 100 of the best compressed pipeline, which the other seeds choose."""
    values = by_seed(_means(frame, pipelines)["mce"])
    return chosen_by_others(values[_compressed(values, pipelines)] - 100, largest=False)


def gains_over_control(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C1b: corrupted accuracy beyond the primary baseline's of the best one, chosen alike."""
    values = by_seed(_means(frame, pipelines)["corrupted_accuracy"])
    return chosen_by_others(_against_baseline(values, pipelines), largest=True)


def gains_at_clean_error(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C1c: effective robustness beyond the primary baseline's of the best one, chosen alike."""
    return chosen_by_others(_against_baseline(_effective(frame, pipelines), pipelines), True)


def quantized_alone(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C3: mCE - 100 of integers after training."""
    return _mean(_mce(frame, pipelines, [("quantize",)]) - 100)


def conversion_after_qat(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C4: what int8 adds to the mCE of quantization-aware training."""
    return _mean(_converted(frame, pipelines, [("qat",)]))


def worst_of_clustering(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C5: mCE - 100 of the worst pipeline with clusters and without quantization-aware training,
    which the other seeds choose."""
    kinds = [("cluster",), ("prune", "cluster")]
    kinds += [(*kind, "quantize") for kind in kinds]
    return chosen_by_others(_mce(frame, pipelines, kinds) - 100, largest=True)


def combined_on_front(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C6: the share of pipelines of several techniques on the front of compression ratio, mCE and
    accuracy, in percent, minus 50."""
    mce = by_seed(_means(frame, pipelines)["mce"])
    parts = [mce, *(by_seed(wide(usable(frame), m)) for m in ("compression_ratio", "accuracy"))]
    several = {p.name for p in pipelines if len(p.techniques) > 1}
    names = [name for name in mce if all(name in part for part in parts)]
    seeds = sorted(set.intersection(*(set(part.index) for part in parts)))
    if not seeds or not several & set(names):
        return None
    points = np.stack([part.loc[seeds, names].to_numpy() for part in parts], axis=-1)
    combined = np.array([name in several for name in names])
    larger = np.array([False, True, True])
    shares = [combined[on_front(of_seed, larger)].mean() for of_seed in points]
    return Evidence(100 * np.array(shares) - 50)


def conversion_behind_structure(frame: Frame, pipelines: Pipelines) -> Evidence | None:
    """C7: the largest change of mCE by int8 behind training with clusters, zeros or both."""
    kinds = [("cluster", "qat"), ("prune", "qat"), ("prune", "cluster", "qat")]
    changes = _converted(frame, pipelines, kinds).abs()
    return Evidence(changes.max(axis=1).to_numpy()) if changes.size else None


def differ_in(quantity: str) -> Callable[[Frame, Pipelines], Evidence | None]:
    """C8: do the compressed pipelines' `quantity` differ?"""

    def estimate(frame: Frame, pipelines: Pipelines) -> Evidence | None:
        if quantity == "effective_robustness":
            values = _effective(frame, pipelines)
        else:
            values = by_seed(_means(frame, pipelines)[quantity])
        return differing(values[_compressed(values, pipelines)], pipelines, "value")

    return estimate


def chosen_by_others(differences: pd.DataFrame, largest: bool) -> Evidence | None:
    """Each seed's difference of the column [seeds, pipelines] that is the best in the mean of all
    other seeds, so that what is chosen for its luck is not credited with it; None without two
    seeds or any column. Seeds choose for one another, so a t test of these takes them for more
    independent than they are."""
    if differences.shape[0] < 2 or not differences.shape[1]:
        return None
    sign = 1 if largest else -1
    values = differences.to_numpy()
    others = sign * (values.sum(0) - values)
    chosen = others.argmax(1)
    names = differences.columns[chosen].value_counts().index
    note = f"chosen: {', '.join(map(str, names))}"
    return Evidence(values[np.arange(len(values)), chosen], note=note)


def _means(frame: Frame, pipelines: Pipelines) -> pd.DataFrame:
    """Over what the study has of the benchmark, as published: without the extra corruptions."""
    errors = corruption_errors(frame, pipelines)
    return over_shifts(errors, errors.index.unique("shift").difference(list(EXTRA)))


def _effective(frame: Frame, pipelines: Pipelines) -> pd.DataFrame:
    means = _means(frame, pipelines)["corrupted_accuracy"]
    above, _ = above_line(accuracies(frame, means), pipelines)
    return by_seed(above)


def _compressed(values: pd.DataFrame, pipelines: Pipelines) -> list[str]:
    return [p.name for p in pipelines if p.kind in COMPRESSED and p.name in values]


def _against_baseline(values: pd.DataFrame, pipelines: Pipelines) -> pd.DataFrame:
    pairs = {p.name: p.baseline for p in pipelines if p.kind in COMPRESSED}
    known = {name: base for name, base in pairs.items() if name in values and base in values}
    return pd.DataFrame({name: values[name] - values[base] for name, base in known.items()})


def _mce(frame: Frame, pipelines: Pipelines, kinds: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    values = by_seed(_means(frame, pipelines)["mce"])
    return values[[p.name for p in pipelines if p.techniques in kinds and p.name in values]]


def _converted(
    frame: Frame, pipelines: Pipelines, kinds: Sequence[tuple[str, ...]]
) -> pd.DataFrame:
    """mCE of pipelines that end in int8 minus those of the same techniques without it."""
    values = by_seed(_means(frame, pipelines)["mce"])
    found = {p.techniques: p.name for p in pipelines if p.name in values}
    pairs = {kind: (found.get(kind), found.get((*kind, "quantize"))) for kind in kinds}
    return pd.DataFrame(
        {str(k): values[after] - values[before] for k, (before, after) in pairs.items()
         if before and after}
    )  # fmt: skip


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
    ),
    Claim(
        "C1b",
        "They do against a dense network with the same further steps.",
        f"confound control of {SOURCE}",
        "Corrupted accuracy of the best compressed pipeline, chosen by the other seeds, minus its "
        "primary baseline's.",
        gains_over_control,
    ),
    Claim(
        "C1c",
        "They do at matched clean error.",
        f"confound control of {SOURCE}",
        "Effective robustness of the best compressed pipeline, chosen by the other seeds, minus "
        "its primary baseline's.",
        gains_at_clean_error,
        untested="the study has fewer than five dense networks of different accuracy",
    ),
    Claim(
        "C2",
        "More complex networks gain more.",
        SOURCE,
        "mCE - 100 against the size of the network.",
        None,
        untested="a study has one network",
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
    ),
    Claim(
        "C4",
        "Int8 conversion of a network trained with quantization collapses.",
        SOURCE,
        "mCE after the conversion minus before; published: +12 to +123.",
        conversion_after_qat,
        margin=COLLAPSE,
        unit=UNIT,
        untested=LACKING,
    ),
    Claim(
        "C5",
        "Clustering, also of pruned networks, never hurts.",
        SOURCE,
        "mCE - 100 of the worst of clustering, pruning with clustering and both with int8, chosen "
        "by the other seeds, at most half a percent.",
        worst_of_clustering,
        direction="less",
        margin=-SAME,
        unit=UNIT,
        untested=LACKING,
    ),
    Claim(
        "C6",
        "Combined pipelines form the Pareto front.",
        SOURCE,
        "Their share of the front of compression ratio, mCE and accuracy, beyond one half.",
        combined_on_front,
        unit="percent of the front beyond half",
        untested=LACKING,
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
        )
        for name, words, quantity, unit, source, untested in (
            ("C8a", "robustness, by mCE", "mce", "percent", SOURCE, LACKING),
            (
                "C8b", "robustness, by relative mCE", "relative_mce", "percent",
                f"confound control of {SOURCE}", LACKING,
            ),
            (
                "C8c", "robustness at matched clean error", "effective_robustness", "points",
                f"confound control of {SOURCE}", "the study has fewer than five dense networks",
            ),
        )
    ),
)  # fmt: skip
