"""Heat maps of long tables: a row per pipeline, coloured cells with numbers and dots."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Canvas

from rcm.analysis.statistics import COMPRESSED, PipelineInfo, records
from rcm.report.layout import number
from rcm.report.style import quiet

CELL_INK, CELL_PAPER = "#101418", "#fcfcfc"  # not themed: they stand on the cell's own colour
TALLEST_BAR = 4.5  # inches
LETTERS = 140  # of the small size, that a map is wide
MANY = 20  # columns, of more than which numbers find no room


class Scale(NamedTuple):
    """What colours mean: the name of a colour map, the values at its ends, and the value without
    colour, whose absence from an interval a dot marks (None: no dots)."""

    colours: str
    low: float
    high: float
    centre: float | None = None

    def depth(self, value: float) -> float:
        """How strong the colour of a value is, from 0 to 1."""
        centre = self.low if self.centre is None else self.centre
        return min(abs(value - centre) / (self.high - centre), 1)


LEVELS = Scale("Greys", 0.0, 100.0)  # of percentages


def both_ways(colours: str, limit: float, centre: float) -> Scale:
    """Colours for what lies up to `limit` above and below `centre`."""
    return Scale(colours, centre - limit, centre + limit, centre)


def judged(table: pd.DataFrame, pipelines: Sequence[PipelineInfo]) -> pd.DataFrame:
    """The rows that the colours are scaled to: those of compressed pipelines, if there are any,
    beside which dense networks of tiny budgets would pale all others."""
    compressed = {p.name for p in pipelines if p.kind in COMPRESSED}
    rows = table[table["pipeline"].isin(compressed)]
    return rows if len(rows) else table


def heat_map(
    axes: Axes,
    table: pd.DataFrame,
    across: str,
    names: Sequence[str],
    columns: Sequence[str],
    scale: Scale,
) -> None:
    """Means as coloured cells [names, columns], with numbers if they fit; dots for intervals
    without the scale's centre."""
    places = {(row.pipeline, getattr(row, across)): row for row in records(table)}
    values = np.full((len(names), len(columns)), np.nan)
    for i, name in enumerate(names):
        for j, column in enumerate(columns):
            if (name, column) in places:
                values[i, j] = places[name, column].mean
    norm = Normalize(scale.low, scale.high)
    cells = {"cmap": scale.colours, "norm": norm, "edgecolors": CELL_PAPER, "linewidth": 0.6}
    axes.pcolormesh(np.ma.masked_invalid(values), **cells)
    axes.invert_yaxis()
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            text = _cell_text(places[names[i], columns[j]], scale, len(columns))
            ink = CELL_PAPER if scale.depth(value) > 0.62 else CELL_INK
            where = {"ha": "center", "va": "center", "fontsize": 7, "color": ink}
            axes.text(j + 0.5, i + 0.52, text, **where).set_in_layout(False)


def _cell_text(row, scale: Scale, columns: int) -> str:
    dot = scale.centre is not None and (row.lo > scale.centre or row.hi < scale.centre)
    if columns > MANY:
        return "·" if dot else ""
    text = number(row.mean, 1, signed=True) if scale.centre == 0 else number(row.mean, 0)
    return f"{text} •" if dot else text


def label_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name rows and columns, these aslant where they would touch; no column where `columns` is
    empty."""
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    places = np.arange(len(columns)) + 0.5
    if _touch(columns):
        words = [column.replace("\n", " ") for column in columns]
        axes.set_xticks(places, words, rotation=35, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, columns)
    axes.tick_params(axis="x", labelsize=7.5 if len(columns) <= 10 else 6.2)
    quiet(axes)


def _touch(columns: Sequence[str]) -> bool:
    """Whether any two neighbours among the names fill the room between their columns' centres."""
    letters = [max(map(len, column.split("\n"))) for column in columns]
    return any(a + b > 2 * LETTERS / len(columns) for a, b in itertools.pairwise(letters))


def colour_bar(canvas: Canvas, scale: Scale, axes: Sequence[Axes], label: str) -> str:
    """A thin bar of the colours beside the panels, at the top of those that are taller than it,
    pointed at the ends beyond which cells of this scale lie; what the caption says of that, ""
    without any."""
    places = [one.get_position() for one in axes]
    span = max(place.y1 for place in places) - min(place.y0 for place in places)
    shrink = min(0.9, TALLEST_BAR / (span * canvas.get_figheight()))
    anchor = (0.0, 0.5 if shrink == 0.9 else 1.0)
    where = {"ax": axes, "pad": 0.01, "aspect": 30, "shrink": shrink, "anchor": anchor}
    found = [m for one in axes for m in one.collections if isinstance(m, QuadMesh)]
    own = [m for m in found if (m.norm.vmin, m.norm.vmax) == (scale.low, scale.high)]
    beyond = _beyond(scale, own)
    bar = canvas.colorbar(own[0], extend=beyond, extendfrac=0.03, **where)
    bar.outline.set_visible(False)
    bar.set_label(label)
    bar.ax.tick_params(length=0)
    return "" if beyond == "neither" else " Cells lie beyond the pointed ends of the colour bar."


def _beyond(scale: Scale, meshes: Sequence[QuadMesh]) -> str:
    """The ends of a scale that cells lie beyond, as matplotlib calls them."""
    cells = np.concatenate([np.ma.asarray(mesh.get_array()).compressed() for mesh in meshes])
    rounding = 1e-9 * (scale.high - scale.low)
    below, above = (cells < scale.low - rounding).any(), (cells > scale.high + rounding).any()
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[int(below), int(above)]
