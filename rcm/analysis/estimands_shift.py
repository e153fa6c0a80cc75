"""What the claims of protocol S2 are read off (`claims_shift`), one number per seed.

Under attack it is averaged over the study's radii, each with the worst case over all attacks of
that radius, those without gradients included, because gradients mislead on quantized networks; in
other domains it is averaged over the domains. Blocks, ratios and, where a claim names several,
pipelines or pairs of them have equal weight; seeds that lack a member of the comparison are left
out. Pipelines of matched size are all pairs whose mean stored bytes differ at most by the factor
`contrasts.ALIKE`; the verdict names them.
"""

from collections.abc import Callable
from operator import attrgetter

import pandas as pd

from rcm.analysis.claims import Evidence
from rcm.analysis.contrasts import (
    ALIKE,
    alike,
    compared,
    differences,
    evidence,
    hardest,
    joined,
    matched,
    size_slope,
    slope,
    tested,
)
from rcm.analysis.measured import Measured, Shifted, primary_pairs

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


def larger_drops_more(measured: Measured, where: Where) -> Evidence | None:
    """C2: least-squares slope of the drop on the doublings of stored size, over networks that were
    trained alone and are no compression's: the dense one, smaller and larger ones."""
    found, names = where(measured), _alone(measured)
    names = [name for name in names if found and name in found.away]
    weights = size_slope(measured.sizes[names])
    if not found or weights is None:
        return None
    points, percent = (table[names].to_numpy() @ weights for table in (found.drop, -found.kept))
    labels = {p.name: p.label for p in measured.pipelines}
    each = ", ".join(f"{labels[name]} {found.drop[name].mean():.1f}" for name in names)
    return Evidence(points, percent, note=joined([found.note, f"drops: {each}"]))


def large_loses_more(measured: Measured, where: Where) -> Evidence | None:
    """C2: what a network that is compressed to the size of a smaller one drops by, minus what the
    smaller one does, whether it stands alone or is compressed, too."""
    found, sizes = where(measured), measured.sizes
    alone = _alone(measured)
    roots = {name: name for name in alone} | {
        p.name: p.parent for p in measured.pipelines if p.kind in ("trained", "post_training")
    }
    names = [name for name, root in roots.items() if root in alone]
    pairs = [
        (a, b)
        for a, b in alike(sizes, names, names)
        if a not in alone and sizes[roots[a]] > ALIKE * sizes[roots[b]]
    ]
    pairs = tested(pairs, found)
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


def _alone(measured: Measured) -> list[str]:
    """The dense network and those of another size that were trained alone, by stored size but for
    the dense one, which comes first; none without it."""
    sizes = measured.sizes
    dense = [p.name for p in measured.pipelines if p.kind == "dense" and p.name in sizes]
    others = [
        p.name
        for p in measured.pipelines
        if p.kind == "control" and p.name in sizes and p.parent in dense
        if not 1 / ALIKE < sizes[p.name] / sizes[dense[0]] < ALIKE
    ]
    return [*dense, *sorted(others, key=lambda name: sizes[name])]


def _students(measured: Measured) -> list[str]:
    return [p.name for p in measured.pipelines if p.kind == "student" and not p.techniques]


def _pruned(measured: Measured) -> list[str]:
    return [p.name for p in measured.pipelines if p.techniques and set(p.techniques) <= {*PRUNING}]


def _quantized(measured: Measured) -> list[str]:
    found = [p for p in measured.pipelines if p.kind == "post_training"]
    return [p.name for p in found if set(p.techniques) == {"quantize"}]
