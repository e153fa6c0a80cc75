"""How figures look, and how one drawing becomes a PNG, an SVG, its theme-aware form and a PDF."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

INK, MUTED, GRID = "#1c2126", "#6b747d", "#dfe3e7"
OTHERS = "#b9c0c7"  # what is shown for comparison only
# Okabe & Ito's colour-blind-safe palette; black and grey for what is not compressed.
KIND_COLOURS = {
    "dense": INK,
    "replica": "#5a6b85",
    "control": "#8a8f94",
    "trained": "#0072b2",
    "post_training": "#d55e00",
    "student": "#009e73",
}
KIND_LABELS = {
    "dense": "dense parent",
    "replica": "dense, other seeds",
    "control": "control, not compressed",
    "trained": "compressed, then trained",
    "post_training": "compressed after training",
    "student": "distilled student",
}
KIND_MARKERS = {
    "dense": "s",
    "replica": "P",
    "control": "D",
    "trained": "o",
    "post_training": "^",
    "student": "v",
}
# What replaces each colour on a dark page, in the SVG only.
DARK = {
    INK: "#e8eaed",
    MUTED: "#9aa3ad",
    GRID: "#343b43",
    OTHERS: "#59636d",
    "#8a8f94": "#a4abb2",
    "#5a6b85": "#9db0cc",
    "#0072b2": "#56b4e9",
    "#d55e00": "#f0883e",
    "#009e73": "#2fc99a",
}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "errorbar.capsize": 0.0,
    "pdf.fonttype": 42,  # whole characters, which publishers ask for
    "svg.fonttype": "none",
    "svg.hashsalt": "rcm",
}


class Figure(NamedTuple):
    """A figure: a file name without ending, a headline, a caption, and its renderings."""

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes
    pdf: bytes


@contextmanager
def figure_style() -> Iterator[None]:
    """matplotlib's defaults with this style inside the block, whatever the user's settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Canvas:
    """An empty figure in inches with constrained layout, outside pyplot's global state."""
    return Canvas(figsize=(width, height), layout="constrained")


def quiet(axes: Axes) -> None:
    """Remove the frame and the tick marks, as heat maps want it."""
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def close_grid(grid: np.ndarray, drawn: int) -> None:
    """Hide the panels [down, across] behind the first `drawn`, and number the lowest of each column
    that are left."""
    for axes in grid.flat[drawn:]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, drawn - grid.shape[1]) : drawn]:
        axes.tick_params(labelbottom=True)


def fix_layout(figure: Canvas) -> None:
    """Lay out once and keep it: the solver is most of the cost of drawing."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # "none" leaves a placeholder, for which all is drawn twice


def render(figure: Canvas) -> tuple[bytes, bytes, bytes]:
    """(PNG at 180 dots per inch on white, SVG, PDF), without dates, so that equal drawings are
    equal bytes."""
    png, svg, pdf = io.BytesIO(), io.BytesIO(), io.BytesIO()
    fix_layout(figure)
    FigureCanvasSVG(figure).print_figure(
        svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    FigureCanvasAgg(figure).print_figure(png, format="png", dpi=180, facecolor="white")
    FigureCanvasPdf(figure).print_figure(
        pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
    )
    return png.getvalue(), svg.getvalue(), pdf.getvalue()


def themed(drawing: bytes) -> bytes:
    """The SVG with its colours as variables that a dark page redefines, and the page's font."""
    light = "".join(f"--c{colour[1:]}:{colour};" for colour in DARK)
    dark = "".join(f"--c{colour[1:]}:{other};" for colour, other in DARK.items())
    style = f"svg{{{light}}}@media (prefers-color-scheme: dark){{svg{{{dark}}}}}"
    svg = drawing.decode()
    for colour in DARK:
        svg = re.sub(rf"(: ?){colour}\b", rf"\1var(--c{colour[1:]})", svg)
    svg = svg.replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif")
    start = svg.index("<defs>")
    return f"{svg[:start]}<style>{style}</style>{svg[start:]}".encode()


def finish(name: str, title: str, caption: str, canvas: Canvas) -> Figure:
    """The drawing as a `Figure`, rendered in every way."""
    return Figure(name, title, caption, *render(canvas))


def seeds_in_words(table: pd.DataFrame) -> str:
    """How many seeds stand behind the estimates of a long table: "n = 3 seeds"."""
    low, high = int(table["n"].min()), int(table["n"].max())
    if high == 1:
        return "n = 1 seed, so without intervals"
    return f"n = {high} seeds" if low == high else f"n = {low} to {high} seeds"


def extremes(table: pd.DataFrame) -> list[float]:
    """The smallest and the largest imbalance ratio of a table, for figures of single ratios whose
    others would tell the same story."""
    ratios = sorted(table["ratio"].unique())
    return [float(ratio) for ratio in dict.fromkeys((*ratios[:1], *ratios[-1:]))]


def half_interval(table: pd.DataFrame) -> pd.Series:
    """Half the width of each estimate's interval, 0 where there is none."""
    return ((table["hi"] - table["lo"]) / 2).fillna(0)


def percent_arms(table: pd.DataFrame) -> np.ndarray:
    """How far the intervals of percentages are drawn below and above their means, [2, N]: t knows
    no bounds, and they end where percentages do."""
    half, mean = half_interval(table), table["mean"]
    return np.stack([np.minimum(half, mean), np.minimum(half, 100 - mean)]).clip(min=0)


def cut_words(table: pd.DataFrame) -> str:
    """What a caption says of `percent_arms` where some are cut; else ""."""
    leaves = (table["lo"] < 0) | (table["hi"] > 100)
    return " Intervals end where percentages do." if leaves.any() else ""


def shorten(text: str, length: int) -> str:
    """At most `length` letters of a label, the last one an ellipsis if some are missing."""
    return text if len(text) <= length else text[: length - 1] + "…"
