"""Contrasts of pipelines that several claims are made of, one number per seed."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rcm.analysis.claims import Evidence
from rcm.analysis.measured import Measured, Shifted

ALIKE = 1.25  # the factor by which the bytes of pipelines of matched size may differ
Pairs = list[tuple[str, str]]


def chosen_by_others(
    differences: pd.DataFrame, largest: bool, percent: pd.DataFrame | None = None
) -> Evidence | None:
    """Each seed's difference of the column [seeds, pipelines] that is the best in the mean of all
    other seeds, so that what is chosen for its luck is not credited with it; None without two
    seeds or any column. Seeds choose for one another, so a t test of these takes them for more
    independent than they are. percent: the same differences on the relative scale."""
    if differences.shape[0] < 2 or not differences.shape[1]:
        return None
    sign = 1 if largest else -1
    values, seeds = differences.to_numpy(), np.arange(len(differences))
    others = sign * (values.sum(0) - values)
    chosen = others.argmax(1)
    names = differences.columns[chosen].value_counts().index
    relative = np.empty(0) if percent is None else percent.to_numpy()[seeds, chosen]
    note = f"chosen: {', '.join(map(str, names))}; such an interval is too narrow"
    return Evidence(values[seeds, chosen], relative, note=note)


def matched(
    measured: Measured, found: Shifted | None, first: Sequence[str], second: Sequence[str]
) -> Evidence | None:
    """Accuracy under a shift of the pipelines `first` minus `second`, mean over all pairs of
    matched size; in percent, of the accuracy that each has without the shift. None without any."""
    pairs = tested(alike(measured.sizes, first, second), found)
    if not found or not pairs:
        return None
    points, percent = (differences(table, pairs) for table in (found.away, found.kept))
    return evidence(points, percent, [found.note, compared(pairs, measured)])


def hardest(comparisons: Mapping[str, Evidence | None], largest: bool) -> Evidence | None:
    """For each seed the one of several comparisons that is the largest, or the least, of the other
    seeds; None if one is missing."""
    known = {name: one for name, one in comparisons.items() if one is not None}
    if len(known) < len(comparisons):
        return None
    points = pd.DataFrame({name: one.points for name, one in known.items()}).dropna()
    percent = pd.DataFrame({name: one.percent for name, one in known.items()}).loc[points.index]
    chosen = chosen_by_others(points, largest, percent)
    if chosen is None:
        return None
    return chosen._replace(note=joined([chosen.note, *(one.note for one in known.values())]))


def slope(measured: Measured, found: Shifted | None, names: Sequence[str]) -> Evidence | None:
    """Least-squares slope of accuracy under a shift on the halvings of the stored size, over the
    pipelines `names` of each network, mean over networks; None unless the sizes of one's pipelines
    differ by more than `ALIKE`."""
    by_network: dict[str, list[str]] = {}
    for p in measured.pipelines:
        if p.name in names and found and p.name in found.away and p.name in measured.sizes:
            by_network.setdefault(p.parent, []).append(p.name)
    slopes = [(own, size_slope(measured.sizes[own])) for own in by_network.values()]
    known = [(own, weights) for own, weights in slopes if weights is not None]
    if not found or not known:
        return None
    points, percent = (
        np.mean([-(table[own].to_numpy() @ weights) for own, weights in known], axis=0)
        for table in (found.away, found.kept)
    )
    return Evidence(points, percent, note=found.note)


def size_slope(sizes: pd.Series) -> np.ndarray | None:
    """What values of pipelines of these bytes are weighted with to give their least-squares slope
    on the doublings of size; None unless sizes differ by more than `ALIKE`."""
    if sizes.empty or sizes.max() <= ALIKE * sizes.min():
        return None
    doublings = np.log2(sizes.to_numpy(float))
    apart = doublings - doublings.mean()
    return apart / (apart**2).sum()


def alike(sizes: pd.Series, first: Sequence[str], second: Sequence[str]) -> Pairs:
    """All pairs of pipelines, one of each list, whose bytes differ at most by `ALIKE`."""
    known = [(a, b) for a in first for b in second if a in sizes and b in sizes]
    return [(a, b) for a, b in known if 1 / ALIKE <= sizes[a] / sizes[b] <= ALIKE]


def tested(pairs: Pairs, found: Shifted | None) -> Pairs:
    """The pairs of which both pipelines were tested under the shift."""
    return [pair for pair in pairs if found and set(pair) <= set(found.away.columns)]


def differences(table: pd.DataFrame, pairs: Pairs) -> pd.DataFrame:
    """First minus second of every pair, [seeds, pairs]."""
    return pd.DataFrame({pair: table[pair[0]] - table[pair[1]] for pair in pairs})


def evidence(points: pd.DataFrame, percent: pd.DataFrame, notes: Sequence[str]) -> Evidence:
    """Each seed's mean over the columns, NaN where it lacks one."""
    own, relative = (table.mean(axis="columns", skipna=False) for table in (points, percent))
    return Evidence(own.to_numpy(), relative.to_numpy(), note=joined(notes))


def compared(pairs: Pairs, measured: Measured) -> str:
    """The pairs, for the reader of a verdict."""
    labels = {p.name: p.label for p in measured.pipelines}
    return "compared: " + ", ".join(f"{labels[a]} with {labels[b]}" for a, b in pairs)


def joined(notes: Sequence[str]) -> str:
    """Remarks in one line, each once."""
    return "; ".join(dict.fromkeys(filter(None, "; ".join(notes).split("; "))))
