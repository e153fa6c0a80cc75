"""The claims of "Robustness to distribution shifts of compressed networks for edge devices" (arXiv
2401.12014), protocol S2, as estimands on the results table.

Evidence is one number per seed. Under attack it is averaged over the study's radii, each with the
worst case over all attacks of that radius, those without gradients included, because gradients
mislead on quantized networks; in other domains it is averaged over the domains. Blocks, ratios and,
where a claim names several, pipelines or pairs of them have equal weight; seeds that lack a member
of the comparison are left out.

Pipelines of matched size are all pairs whose mean stored bytes differ at most by the factor
`contrasts.ALIKE`; the verdict names them.
"""

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

import pandas as pd

from rcm.analysis.claims import PARENT, PRIMARY, TOST, Claim, Evidence
from rcm.analysis.contrasts import (
    ALIKE,
    alike,
    compared,
    differences,
    evidence,
    hardest,
    matched,
    slope,
    tested,
)
from rcm.analysis.measured import Measured, Shifted, primary_pairs

SOURCE = "arXiv 2401.12014"
SAME = 0.5  # points by which what is the same may differ (protocols)
PRUNING = ("prune", "prune_filters", "dynamic_sparse")
Where = Callable[[Measured], Shifted | None]
attacked: Where = attrgetter("attacked")
elsewhere: Where = attrgetter("elsewhere")


def loses_more(measured: Measured, where: Where) -> Evidence | None:
    """C1: what a compressed pipeline drops by minus what its baseline does, mean over pipelines;
    in percent, 100 minus its relative robustness."""
    found = where(measured)
    pairs = tested(primary_pairs(measured.pipelines), found)
    if not found or not pairs:
        return None
    points = differences(found.drop, pairs)
    ratio = {a: found.kept[a] / found.kept[b].where(found.kept[b] > 0) for a, b in pairs}
    labels = {p.name: p.label for p in measured.pipelines}
    means = points.mean().set_axis([a for a, _ in pairs])
    extremes = (str(means.idxmin()), str(means.idxmax()))
    ends = [f"{means[name]:+.1f} ({labels[name]})" for name in extremes]
    note = f"from {ends[0]} to {ends[1]}"
    return evidence(points, 100 - 100 * pd.DataFrame(ratio), [note, found.note])


def large_loses_more(measured: Measured, where: Where) -> Evidence | None:
    """C2: what a network that is compressed to the size of a smaller one drops by, minus what the
    small network, trained alone, does."""
    found, sizes = where(measured), measured.sizes
    dense = [sizes[p.name] for p in measured.pipelines if p.kind == "dense" and p.name in sizes]
    alone = [p.name for p in measured.pipelines if p.kind == "control" and p.name in sizes]
    small = [name for name in alone if dense and sizes[name] * ALIKE <= dense[0]]
    large = [p.name for p in measured.pipelines if p.kind in ("trained", "post_training")]
    pairs = tested(alike(sizes, large, small), found)
    if not found or not pairs:
        return None
    parts = (differences(found.drop, pairs), -differences(found.kept, pairs))
    return evidence(*parts, [found.note, compared(pairs, measured)])


def distilled_over_pruned(measured: Measured, where: Where) -> Evidence | None:
    """C3: accuracy under the shift of students minus that of pruned networks of matched size."""
    return matched(measured, where(measured), _students(measured), _pruned(measured))


def quantized_over_both(measured: Measured, where: Where) -> Evidence | None:
    """C4: accuracy under the shift of networks quantized after training minus that of students, or
    of pruned networks, of matched size: the smaller difference, which the other seeds choose."""
    own = _quantized(measured)
    others = {"distilled": _students(measured), "pruned": _pruned(measured)}
    found = {name: matched(measured, where(measured), own, other) for name, other in others.items()}
    return hardest(found, largest=False)


def eight_bits(measured: Measured, where: Where) -> Evidence | None:
    """C5: accuracy under the shift of 8-bit integers after training minus the parent's."""
    found, own = where(measured), _quantized(measured)
    eight = [(p.name, p.parent) for p in measured.pipelines if p.name in own and p.bits == 8]
    pairs = tested(eight, found)
    if not found or not pairs:
        return None
    return evidence(differences(found.away, pairs), pd.DataFrame(), [found.note])


def distilled_across_rates(measured: Measured) -> Evidence | None:
    """C6a: least-squares slope of students' accuracy under attack on the halvings of their size."""
    return slope(measured, measured.attacked, _students(measured))


def distilled_against_pruned_rates(measured: Measured) -> Evidence | None:
    """C6b: the slope of C6a minus the same of pruned networks."""
    students, pruned = (
        slope(measured, measured.attacked, names)
        for names in (_students(measured), _pruned(measured))
    )
    if students is None or pruned is None:
        return None
    points, percent = students.points - pruned.points, students.percent - pruned.percent
    return Evidence(points, percent, note=students.note)


def pruned_last(measured: Measured) -> Evidence | None:
    """C6c: accuracy under attack of pruned networks minus that of students, or of those quantized
    after training, of matched size: the larger difference, which the other seeds choose."""
    own = _pruned(measured)
    others = {"distilled": _students(measured), "quantized": _quantized(measured)}
    found = {
        name: matched(measured, measured.attacked, own, other) for name, other in others.items()
    }
    return hardest(found, largest=True)


def _students(measured: Measured) -> list[str]:
    return [p.name for p in measured.pipelines if p.kind == "student" and not p.techniques]


def _pruned(measured: Measured) -> list[str]:
    return [p.name for p in measured.pipelines if p.techniques and set(p.techniques) <= {*PRUNING}]


def _quantized(measured: Measured) -> list[str]:
    found = [p for p in measured.pipelines if p.kind == "post_training"]
    return [p.name for p in found if set(p.techniques) == {"quantize"}]


LACKING = "the study lacks this kind of shift, or the pipelines that it takes"
UNMATCHED = f"the study lacks this kind of shift, or pipelines within {ALIKE:g} times the size"
WORST_CASE = "worst case over attacks, averaged over radii"
SHIFTS = (
    ("a", attacked, "under attack", f"accuracy under attack ({WORST_CASE})"),
    ("b", elsewhere, "in other domains", "accuracy in other domains (averaged over them)"),
)


def _of_both(number: str, text: str, estimand: str, estimate: Callable, **more: Any) -> list[Claim]:
    """The claim under attack and in other domains."""
    return [
        Claim(
            f"{number}{letter}",
            f"{text} {words}.",
            SOURCE,
            estimand.format(accuracy=accuracy),
            partial(estimate, where=where),
            **more,
        )
        for letter, where, words, accuracy in SHIFTS
    ]


SHIFT_CLAIMS = (
    *_of_both(
        "C1",
        "Compressed networks are less robust than the original",
        "Drop from accuracy on the same images to {accuracy}, minus the drop of the dense network "
        "with the same further steps, of the parent for what is not trained, of a student's "
        "teacher; averaged over compressed pipelines. In percent: 100 minus the relative "
        "robustness.",
        loses_more,
        contrast=(
            "compressed pipelines against uncompressed networks, shifted images against the same "
            "or like ones before the shift"
        ),
        baseline=PRIMARY,
        figure="robustness-relative-to-the-parent",
        untested=LACKING,
    ),
    *_of_both(
        "C2",
        "A larger network loses more, even compressed to a smaller one's size,",
        "Drop from accuracy on the same images to {accuracy}, of the network compressed to the "
        "bytes of a narrower one, minus the drop of that one trained alone; averaged over pairs. "
        "One study has one network to compress, so widths stand for sizes, and whether a smaller "
        "network would lose less by compression is not asked.",
        large_loses_more,
        contrast=(
            "networks compressed to the size of smaller ones against these, shifted images "
            "against the same or like ones before the shift"
        ),
        baseline="the small network, trained alone",
        figure="robustness_vs_size",
        untested=UNMATCHED,
    ),
    *_of_both(
        "C3",
        "Distilled networks are more robust than pruned ones of their size",
        "Difference in {accuracy}: students minus pruned networks of matched size, averaged over "
        "pairs. In percent: of each one's own accuracy before the shift.",
        distilled_over_pruned,
        contrast="students against pruned networks of matched size, on shifted images",
        baseline="the pruned networks",
        figure="robustness_vs_size",
        untested=UNMATCHED,
    ),
    *_of_both(
        "C4",
        "Quantization after training is more robust than distillation and pruning",
        "Difference in {accuracy}: networks quantized after training minus students, or minus "
        "pruned networks, averaged over pairs of matched size; the smaller of the two, chosen by "
        "the other seeds. In percent: of each one's own accuracy before the shift.",
        quantized_over_both,
        contrast=(
            "networks quantized after training against students and pruned networks of matched "
            "size, on shifted images"
        ),
        baseline="of the two those harder to beat, as the other seeds choose",
        figure="robustness_vs_size",
        untested=UNMATCHED,
    ),
    *_of_both(
        "C5",
        "Eight bits after training are nearly free",
        "Change of {accuracy} by 8-bit integers after training, within half a point.",
        eight_bits,
        contrast="8-bit integers after training against dense networks, on shifted images",
        baseline=PARENT,
        test=TOST,
        figure="robustness-relative-to-the-parent",
        direction="same",
        margin=SAME,
        untested=LACKING,
    ),
    Claim(
        "C6a",
        "Distilled networks are as robust under attack at every rate.",
        SOURCE,
        f"Least-squares slope of accuracy under attack ({WORST_CASE}) on the halvings of stored "
        "size, over students, within half a point.",
        distilled_across_rates,
        contrast="smaller students against larger ones, under attack",
        baseline="none: no change over sizes",
        test=TOST,
        figure="robustness_vs_size",
        direction="same",
        margin=SAME,
        unit="points per halving of size",
        untested="the study lacks attacks, or students of two sizes",
    ),
    Claim(
        "C6b",
        "Under attack distilled networks are more consistent across rates than pruned ones.",
        SOURCE,
        "That slope of students minus that of pruned networks.",
        distilled_against_pruned_rates,
        contrast="students against pruned networks, smaller against larger ones, under attack",
        baseline="the slope of the pruned networks",
        figure="robustness_vs_size",
        unit="points per halving of size",
        untested="the study lacks attacks, or students or pruned networks of two sizes",
    ),
    Claim(
        "C6c",
        "Pruning is the worst under attack.",
        SOURCE,
        f"Difference in accuracy under attack ({WORST_CASE}): pruned networks minus students, or "
        "minus networks quantized after training, averaged over pairs of matched size; the larger "
        "of the two, chosen by the other seeds.",
        pruned_last,
        contrast=(
            "pruned networks against students and networks quantized after training of matched "
            "size, under attack"
        ),
        baseline="of the two those nearer, as the other seeds choose",
        figure="robustness_vs_size",
        direction="less",
        untested=UNMATCHED,
    ),
)
