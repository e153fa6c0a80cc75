"""Direct labels beside points, moved apart until they cover nothing and their leaders no label;
points that cover one another share one."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path as MplPath
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from rcm.report.style import INK, MUTED

LEADER = {"arrowstyle": "-", "color": MUTED, "lw": 0.5}
ENDS = {"left": 0, "center": 0.5, "right": 1}  # where on a label its leader ends, by alignment
SIZE = 7.5  # points of type
TOGETHER = 4  # points of type: marks that are nearer than this cover one another
OUTSIDE = 1000  # things that a label may cover rather than leave the axes
OFFSETS = (5, 14, *range(20, 130, 6))  # points of type, from near to far
SLOPES = (0, 0.4, -0.4, 0.8, -0.8, 1.6, -1.6)
STEEP = tuple((across, up) for across in (0.35, -0.35) for up in (1, -1))
DIRECTIONS = (*((across, up) for up in SLOPES for across in (1, -1)), (0, 1), (0, -1), *STEEP)


def place_labels(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    half: ArrayLike,
    texts: Sequence[str],
    line: ArrayLike = (),
) -> bool:
    """Write each text near its point (data coordinates), greedily at the first free place beside
    the points, their intervals y +- half (or y - half[0] to y + half[1]) and a line through corners
    [N, 2]. Points with an empty text are only kept clear. Texts of points that cover one another
    stand in one label, the topmost first; returns whether there are any.

    Needs the layout to be final (`draw_without_rendering`). A label far from its point gets a
    thin leader line. Where no place is free, a leader crosses something before a label does.
    """
    places = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    points = axes.transData.transform(places)
    below, above = np.broadcast_to(np.asarray(half, float), (2, len(places)))
    ends = (places - np.outer(below, (0, 1)), places + np.outer(above, (0, 1)))
    lows, highs = map(axes.transData.transform, ends)
    unit = axes.figure.dpi / 72
    taken = [
        Bbox.from_extents(px - 4 * unit, low - 4 * unit, px + 4 * unit, high + 4 * unit)
        for (px, _), low, high in zip(points, lows[:, 1], highs[:, 1], strict=True)
    ]
    leaders = [MplPath(axes.transData.transform(line))] if np.size(line) else []
    stacks = _stacks(points, texts, TOGETHER * unit)
    for stack in stacks:
        index, text = stack[len(stack) // 2], "\n".join(texts[i] for i in reversed(stack))
        (dx, dy), box = _best_place(axes, points[index], text, taken, leaders)
        taken.append(box)
        far = max(abs(dx), abs(dy)) > OFFSETS[0]
        if far:
            leaders.append(_leader(points[index], (dx, dy), unit))
        side = "left" if dx > 0 else "right" if dx < 0 else "center"
        axes.annotate(
            text,
            tuple(places[index]),
            xytext=(dx, dy),
            textcoords="offset points",
            fontsize=SIZE,
            color=INK,
            ha=side,
            va="center",
            arrowprops={**LEADER, "relpos": (ENDS[side], 0.5)} if far else None,
        )
    return any(len(stack) > 1 for stack in stacks)


def _stacks(points: np.ndarray, texts: Sequence[str], near: float) -> list[list[int]]:
    """Indices of the points [N, 2] that have a text, from low to high, those together that lie
    within `near` of the lowest among them."""
    stacks: list[list[int]] = []
    for index in map(int, np.argsort(points[:, 1], kind="stable")):
        if not texts[index]:
            continue
        apart = [np.abs(points[stack[0]] - points[index]).max() for stack in stacks]
        if apart and min(apart) < near:
            stacks[int(np.argmin(apart))].append(index)
        else:
            stacks.append([index])
    return stacks


def _best_place(
    axes: Axes, point: np.ndarray, text: str, taken: list[Bbox], leaders: list[MplPath]
) -> tuple[tuple[float, float], Bbox]:
    """(offset in points of type, box in pixels): the nearest place that covers nothing, or else
    the one that covers least, its label counted before its leader."""
    unit = axes.figure.dpi / 72
    apart = [other for other in taken if not other.contains(*point)]
    best, least = ((OFFSETS[0], 0.0), Bbox.null()), (np.inf, np.inf)
    for spot, box, outside in _places(axes, point, text, unit):
        covered = OUTSIDE * outside + sum(box.overlaps(other) for other in taken)
        covered += sum(other.intersects_bbox(box, filled=False) for other in leaders)
        if covered > least[0]:
            continue
        leader = _leader(point, spot, unit)
        crossed = sum(leader.intersects_bbox(other, filled=False) for other in apart)
        if (covered, crossed) < least:
            best, least = (spot, box), (covered, crossed)
        if least == (0, 0):
            break
    return best


def _leader(point: np.ndarray, spot: tuple[float, float], unit: float) -> MplPath:
    return MplPath([point, point + np.multiply(spot, unit)])


def _places(
    axes: Axes, point: np.ndarray, text: str, unit: float
) -> Iterator[tuple[tuple[float, float], Bbox, bool]]:
    """(offset, box, whether it leaves the axes) of a label's places, from near to far."""
    width, height = 1.04 * _extent(axes, text) + 2 * unit  # other renderers set type wider
    frame = axes.get_window_extent()
    for distance in OFFSETS:
        for across, up in DIRECTIONS:
            if abs(across) < 1 and distance < 10:
                continue
            spot = (across * distance, up * distance)
            left = point[0] + spot[0] * unit - (0 if across > 0 else width if across else width / 2)
            box = Bbox.from_bounds(left, point[1] + spot[1] * unit - height / 2, width, height)
            yield spot, box, not all(frame.contains(*corner) for corner in (box.min, box.max))


def _extent(axes: Axes, text: str) -> np.ndarray:
    """Width and height [2] of a label in pixels."""
    drawn = axes.text(0, 0, text, fontsize=SIZE)
    width, height = drawn.get_window_extent().size
    drawn.remove()
    return np.array([width, height])
