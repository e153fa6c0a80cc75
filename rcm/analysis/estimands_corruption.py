"""The claims of "Evaluating the Impact of Compression Techniques on the Robustness of CNNs under
Natural Corruptions" (arXiv 2512.24971), protocol S3: what they are read off.

Evidence is one number per seed: the mean over the study's blocks and ratios; seeds that lack a
member of the comparison are left out. mCE is in percent of the same network's dense parent of the
same seed. The published comparisons mix compression with more training and with clean accuracy, so
C1 and C8 also stand against a dense network of the same budget and at matched clean error.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.claims import Evidence, differing
from rcm.analysis.contrasts import chosen_by_others, size_slope
from rcm.analysis.measured import Measured, of_dense
from rcm.analysis.statistics import COMPRESSED, PipelineInfo, by_seed, per_seed, wide
from rcm.analysis.tradeoffs import on_front

EIGHT = 8  # bits of weights and activations alike: the paper's integers
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
    found = chosen_by_others(_against_baseline(values, measured.pipelines), largest=True)
    return found and found._replace(note=f"{found.note}; {measured.line_note}")


def larger_gain_more(measured: Measured) -> Evidence | None:
    """C2: least-squares slope of 100 - mCE, mean over the techniques that every network of the
    study undergoes, on the doublings of the uncompressed networks' stored bytes."""
    mce = per_seed(measured.corrupted["mce"])
    found: dict[str, dict[tuple, str]] = {}
    for p in measured.pipelines:
        if p.kind in ("trained", "post_training") and p.name in mce and p.parent in measured.sizes:
            found.setdefault(p.parent, {})[p.techniques, p.sparsity, p.bits] = p.name
    weights = size_slope(measured.sizes[list(found)])
    common = set.intersection(*map(set, found.values())) if found else set()
    if weights is None or not common:
        return None
    gains = pd.DataFrame(
        {net: (100 - mce[[own[key] for key in common]]).mean(axis=1) for net, own in found.items()}
    )
    each = ", ".join(f"{network} {values.mean():+.1f}" for network, values in gains.items())
    return Evidence(gains.to_numpy() @ weights, note=f"mean gains: {each}")


def quantized_alone(measured: Measured) -> Evidence | None:
    """C3: mCE - 100 of eight-bit integers after training."""
    return _mean(_mce(measured, [("quantize",)], EIGHT) - 100)


def below_the_others(measured: Measured) -> Evidence | None:
    """C4a: mCE of training with eight bits minus the median of that of the other compressed
    pipelines, without its own conversion to int8; needs three of them."""
    values = per_seed(measured.corrupted["mce"])
    values = values[_compressed(values, measured.pipelines)].dropna()
    own = {p.name: p for p in measured.pipelines if p.name in values}
    trained = [n for n, p in own.items() if p.techniques == ("qat",) and p.bits == EIGHT]
    others = [n for n, p in own.items() if p.techniques not in (("qat",), ("qat", "quantize"))]
    if not trained or len(others) < 3:
        return None
    return Evidence((values[trained[0]] - values[others].median(axis=1)).to_numpy())


def conversion_after_qat(measured: Measured) -> Evidence | None:
    """C4b: what int8 adds to the mCE of quantization-aware training."""
    return _mean(_converted(measured, [("qat",)]))


def worst_of_clustering(measured: Measured) -> Evidence | None:
    """C5: mCE - 100 of the worst of clustering and pruning with clustering, which the other seeds
    choose; what int8 behind them adds is no part of the claim (published: to 109.3)."""
    kinds = [("cluster",), ("prune", "cluster")]
    return chosen_by_others(_mce(measured, kinds) - 100, largest=True)


def combined_on_front(measured: Measured) -> Evidence | None:
    """C6: the share of pipelines of several techniques on the front of compression ratio, mCE and
    accuracy, in percent, minus their share of the competitors, which chance gives them. As in the
    paper the dense parent competes with the compressed; controls, which are no configuration of a
    compression, do not."""
    mce = by_seed(measured.corrupted["mce"])
    parts = [mce, *(by_seed(wide(measured.rows, m)) for m in ("compression_ratio", "accuracy"))]
    pipelines = of_dense(measured.pipelines)  # as ratios are each against its own parent
    several = {p.name for p in pipelines if len(p.techniques) > 1}
    competing = [p.name for p in pipelines if p.kind in (*COMPRESSED, "dense")]
    names = [name for name in competing if all(name in part for part in parts)]
    seeds = sorted(set.intersection(*(set(part.index) for part in parts)))
    if not seeds or not several & set(names):
        return None
    points = np.stack([part.loc[seeds, names].to_numpy() for part in parts], axis=-1)
    combined = np.array([name in several for name in names])
    larger = np.array([False, True, True])
    shares = [combined[on_front(of_seed, larger)].mean() for of_seed in points]
    return Evidence(100 * (np.array(shares) - combined.mean()))


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
        found = differing(own, measured.pipelines, "value")
        if found and quantity == "effective_robustness":
            return found._replace(note=f"{found.note}; {measured.line_note}")
        return found

    return estimate


def _compressed(values: pd.DataFrame, pipelines: Pipelines) -> list[str]:
    return [p.name for p in pipelines if p.kind in COMPRESSED and p.name in values]


def _against_baseline(values: pd.DataFrame, pipelines: Pipelines) -> pd.DataFrame:
    pairs = {p.name: p.baseline for p in pipelines if p.kind in COMPRESSED}
    known = {name: base for name, base in pairs.items() if name in values and base in values}
    differences = {name: values[name] - values[base] for name, base in known.items()}
    return pd.DataFrame(differences).dropna()


def _mce(
    measured: Measured, kinds: Sequence[tuple[str, ...]], bits: float | None = None
) -> pd.DataFrame:
    """mCE [seeds, pipelines] of these techniques, of these bits if any are named."""
    values = per_seed(measured.corrupted["mce"])
    found = [p for p in measured.pipelines if p.techniques in kinds and p.name in values]
    return values[[p.name for p in found if bits in (None, p.bits)]].dropna()


def _converted(measured: Measured, kinds: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """mCE of pipelines that end in int8 minus that of the same, trained with eight bits, before."""
    values = per_seed(measured.corrupted["mce"])
    found = {_key(p): p.name for p in measured.pipelines if p.name in values and p.bits == EIGHT}
    pairs = [
        (name, found[techniques[:-1], *rest])
        for (techniques, *rest), name in found.items()
        if techniques[-1:] == ("quantize",) and techniques[:-1] in kinds
        if (techniques[:-1], *rest) in found
    ]
    return pd.DataFrame({name: values[name] - values[other] for name, other in pairs}).dropna()


def _key(pipeline: PipelineInfo) -> tuple:
    return pipeline.techniques, pipeline.sparsity, pipeline.parent


def _mean(values: pd.DataFrame) -> Evidence | None:
    return Evidence(values.mean(axis=1).to_numpy()) if values.size else None
