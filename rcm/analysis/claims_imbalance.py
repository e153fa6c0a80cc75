"""The claims of "On the Robustness of Compressed Models with Class Imbalance" (Computers 2024,
13(11):297) as estimands on the results table.

Cells are (block, ratio > 1, pipeline). A claim's evidence is one number per seed: the equal-weight
mean over the cells that the study has, so that seeds, the only independent replicates, are the
unit of every test. A seed that lacks a cell which other seeds have is left out, because a mean
over other cells is another quantity.

What a pipeline is compared with: its primary baseline (`finetune`, dense with the same extra
steps, for trained pipelines; the parent for post-training ones); a student with its teacher,
because these claims are about the cost of compression.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rcm.analysis.claims import FRIEDMAN, PRIMARY, Claim, Evidence, differing
from rcm.analysis.contrasts import chosen_by_others
from rcm.analysis.measured import Measured, primary_pairs
from rcm.analysis.statistics import BLOCK, COMPRESSED, PipelineInfo, gap, wide

SOURCE = "On the Robustness of Compressed Models with Class Imbalance, Computers 2024, 13(11):297"
Pairs = list[tuple[str, str]]


def harm_of_compression(measured: Measured) -> Evidence | None:
    """C1: mean over cells of DiD = gap(c, rho) - gap(baseline, rho) of accuracy; > 0 is harm."""
    return _mean_did(measured, primary_pairs(measured.pipelines))


def students_against_teacher(measured: Measured) -> Evidence | None:
    """C5a: mean over students and ratios of gap(student) - gap(teacher)."""
    students = [p for p in measured.pipelines if p.kind == "student"]
    return _mean_did(measured, [(p.name, p.parent) for p in students])


def students_against_alone(measured: Measured) -> Evidence | None:
    """C5b: the same against the baseline, unless that is the teacher itself."""
    students = [p for p in measured.pipelines if p.kind == "student" and p.baseline != p.parent]
    return _mean_did(measured, [(p.name, p.baseline) for p in students])


def growth_with_ratio(measured: Measured) -> Evidence | None:
    """C2: least-squares slope of DiD on log10(rho) over rho > 1, mean over blocks and pipelines.

    rho = 1 is left out: there DiD is 0 by construction and would count as a noise-free point.
    With two ratios the slope is the difference of DiD over the decades between them.
    """
    points, percent = _did_cells(measured, primary_pairs(measured.pipelines), "accuracy")
    return _evidence(_slopes(points), _slopes(percent))


def harm_of_filter_pruning(measured: Measured) -> Evidence | None:
    """C3: as C1, over the pipelines that prune filters and do nothing else; with several networks
    the one that is harmed least, which the other seeds choose, because it is said of each."""
    chosen = [p for p in measured.pipelines if p.techniques == ("prune_filters",)]
    points, percent = {}, {}
    for network in dict.fromkeys(p.parent for p in chosen):
        pairs = primary_pairs([p for p in chosen if p.parent == network])
        both = _did_cells(measured, pairs, "accuracy")
        points[network], percent[network] = (cells.mean(axis="columns") for cells in both)
    if len(points) < 2:
        return _evidence(pd.DataFrame(points), pd.DataFrame(percent))
    own = pd.DataFrame(points).dropna()
    relative = pd.DataFrame(percent).reindex(own.index)
    found = chosen_by_others(own, largest=False, percent=relative)
    each = ", ".join(f"{network} {values.mean():+.1f}" for network, values in own.items())
    return found and found._replace(note=f"{found.note}; in the mean: {each}")


def harm_of_training_with_quantization(measured: Measured) -> Evidence | None:
    """C4a: as C1, over the pipelines that are trained with quantization and nothing else."""
    return _mean_did(measured, primary_pairs(_only_qat(measured.pipelines)))


def growth_with_fewer_bits(measured: Measured) -> Evidence | None:
    """C4b: least-squares slope of DiD on the bits taken away (mean of weights and activations),
    mean over blocks and ratios; needs two widths."""
    chosen = _only_qat(measured.pipelines)
    bits = pd.Series({p.name: -p.bits for p in chosen})
    points, percent = _did_cells(measured, primary_pairs(chosen), "accuracy")
    return _evidence(_slopes_on_bits(points, bits), _slopes_on_bits(percent, bits))


def tail_beyond_head(measured: Measured) -> Evidence | None:
    """C7: mean over cells of DiD(tail recall) - DiD(head recall); > 0 is harm to the minority.

    Equals [(change in head recall) - (change in tail recall)] at rho minus the same at rho = 1,
    where change means compressed minus baseline. Percent is of the same model's recall at rho = 1.
    """
    pairs = primary_pairs(measured.pipelines)
    tails, heads = (_did_cells(measured, pairs, f"recall_{group}") for group in ("tail", "head"))
    points, percent = (_complete(t - h) for t, h in zip(tails, heads, strict=True))
    return _evidence(points, percent)


def techniques_differ(measured: Measured) -> Evidence | None:
    """C6: do the compressed pipelines' gaps differ? Needs two pipelines and two seeds.

    Gaps are averaged over blocks and ratios per seed; a common reference would cancel, so none is
    subtracted.
    """
    gaps = gap(wide(measured.rows, "accuracy"))
    names = [p.name for p in measured.pipelines if p.kind in COMPRESSED and p.name in gaps]
    cells = _by_seed(gaps[names])
    if cells.empty or cells.columns.get_level_values(0).nunique() < 2:
        return None
    return differing(cells.T.groupby(level=0).mean().T, measured.pipelines, "gap")


def _only_qat(pipelines: Sequence[PipelineInfo]) -> list[PipelineInfo]:
    return [p for p in pipelines if p.techniques == ("qat",)]


def _mean_did(measured: Measured, pairs: Pairs) -> Evidence | None:
    return _evidence(*_did_cells(measured, pairs, "accuracy"))


def _did_cells(measured: Measured, pairs: Pairs, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """DiD in (points, percent): a row per seed, a column per (pipeline, block, ratio)."""
    values = wide(measured.rows, metric)
    known = [pair for pair in pairs if set(pair) <= set(values.columns)]
    names, others = [name for name, _ in known], [other for _, other in known]
    points, percent = (gap(values, unit) for unit in ("points", "percent"))
    return (
        _by_seed(points[names] - points[others].set_axis(names, axis="columns")),
        _by_seed(percent[names] - percent[others].set_axis(names, axis="columns")),
    )


def _by_seed(values: pd.DataFrame) -> pd.DataFrame:
    """A row per seed, a column per (pipeline, block, ratio), without incomplete ones."""
    if values.empty:
        return pd.DataFrame()
    cells = values.rename_axis(columns="pipeline").unstack([*BLOCK, "ratio"])
    return _complete(pd.DataFrame(cells))


def _complete(cells: pd.DataFrame) -> pd.DataFrame:
    """Without the cells that no seed has, then without the seeds that lack a cell."""
    return cells.dropna(axis="columns", how="all").dropna(axis="index", how="any")


def _slopes(cells: pd.DataFrame) -> pd.DataFrame:
    """Slope per (pipeline, block) of each seed's cells on log10(ratio); those with two ratios."""
    slopes = {}
    for key, group in cells.T.groupby(level=["pipeline", *BLOCK]) if cells.size else ():
        decades = np.log10(group.index.get_level_values("ratio").to_numpy(float))
        if len(decades) > 1:
            slopes[key] = slope(group, decades)
    return pd.DataFrame(slopes)


def _slopes_on_bits(cells: pd.DataFrame, bits: pd.Series) -> pd.DataFrame:
    """Slope per (ratio, block) of each seed's cells on the bits of their pipelines."""
    slopes = {}
    for key, group in cells.T.groupby(level=["ratio", *BLOCK]) if cells.size else ():
        taken = bits[group.index.get_level_values("pipeline")].to_numpy(float)
        if np.unique(taken).size > 1:
            slopes[key] = slope(group, taken)
    return pd.DataFrame(slopes)


def slope(cells: pd.DataFrame, x: np.ndarray) -> pd.Series:
    """Least-squares slope on x [rows] of each column."""
    centred = x - x.mean()
    return pd.Series(centred @ cells.to_numpy(), cells.columns) / (centred @ centred)


def _evidence(points: pd.DataFrame, percent: pd.DataFrame) -> Evidence | None:
    """Each seed's mean over its cells; None without any."""
    if not points.size:
        return None
    relative = percent.mean(axis="columns").to_numpy() if percent.size else np.empty(0)
    return Evidence(points.mean(axis="columns").to_numpy(), relative)


IMBALANCE_CLAIMS = (
    Claim(
        "C1",
        "Compressed models lose more to class imbalance than uncompressed ones.",
        SOURCE,
        "Difference in differences of accuracy, averaged over compressed pipelines and "
        "imbalance ratios.",
        harm_of_compression,
        contrast=(
            "compressed pipelines against uncompressed networks, ratios above 1 against ratio 1"
        ),
        baseline=PRIMARY,
        figure="did",
    ),
    Claim(
        "C2",
        "The extra loss grows with the imbalance ratio.",
        SOURCE,
        "Least-squares slope of the difference in differences on log10(ratio) over ratios "
        "above 1, averaged over compressed pipelines.",
        growth_with_ratio,
        contrast=(
            "compressed pipelines against uncompressed networks, larger ratios against smaller ones"
        ),
        baseline=PRIMARY,
        unit="points per tenfold ratio",
        figure="did",
    ),
    Claim(
        "C3",
        "Filter-pruned models lose more to class imbalance.",
        SOURCE,
        "Difference in differences of accuracy, averaged over filter-pruned pipelines and ratios; "
        "of several networks the one harmed least, chosen by the other seeds.",
        harm_of_filter_pruning,
        contrast="filter-pruned against uncompressed networks, ratios above 1 against ratio 1",
        baseline=PRIMARY,
        untested="filter pruning is not part of this study",
        figure="did",
    ),
    Claim(
        "C4a",
        "Models trained with quantization lose more to class imbalance.",
        SOURCE,
        "Difference in differences of accuracy, averaged over quantization-aware pipelines and "
        "ratios.",
        harm_of_training_with_quantization,
        contrast=(
            "networks trained with quantization against uncompressed ones, ratios above 1 against "
            "ratio 1"
        ),
        baseline=PRIMARY,
        untested="quantization-aware training is not part of this study",
        figure="did",
    ),
    Claim(
        "C4b",
        "Trained with quantization, they lose more at fewer bits.",
        SOURCE,
        "Least-squares slope of the difference in differences on the bits taken away (mean of "
        "weights and activations), averaged over ratios.",
        growth_with_fewer_bits,
        contrast="fewer bits against more, ratios above 1 against ratio 1",
        baseline=PRIMARY,
        unit="points per bit",
        untested="the study does not train with quantization at two widths",
        figure="did",
    ),
    Claim(
        "C5a",
        "Distilled students lose more to imbalance than their teachers.",
        SOURCE,
        "Difference in differences of accuracy, student against teacher, averaged over "
        "students and ratios: the cost of compression.",
        students_against_teacher,
        contrast="students against their teachers, ratios above 1 against ratio 1",
        baseline="the teacher, a dense parent of the same seed",
        figure="did",
    ),
    Claim(
        "C5b",
        "Distilled students lose more to imbalance than students trained alone.",
        SOURCE,
        "Difference in differences of accuracy, student against the same network trained "
        "without a teacher: the effect of distillation.",
        students_against_alone,
        contrast=(
            "students against the same networks without a teacher, ratios above 1 against ratio 1"
        ),
        baseline="the same network trained alone",
        figure="did",
    ),
    Claim(
        "C6",
        "Compression techniques differ in their loss to imbalance.",
        SOURCE,
        "Friedman test of the pipelines' gaps averaged over ratios, seeds as blocks (paired t "
        "for two pipelines); the effect is the spread between the pipelines' mean gaps.",
        techniques_differ,
        contrast="compressed pipelines against one another",
        baseline="none: one in common would cancel",
        test=FRIEDMAN,
        direction="any",
        unit="points between the extremes",
        figure="gap",
    ),
    Claim(
        "C7",
        "The extra harm falls on minority classes.",
        SOURCE,
        "Difference in differences of tail recall minus that of head recall: each class group "
        "is compared with itself at ratio 1, so hard classes do not pass for rare ones.",
        tail_beyond_head,
        contrast=(
            "rare classes against frequent ones, compressed against uncompressed, ratios above 1 "
            "against ratio 1"
        ),
        baseline=PRIMARY,
        figure="recall_change",
    ),
)
