"""Direct labels beside points, moved apart until neither they nor their leaders cover anything."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path as MplPath
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from rcm.report.style import INK, MUTED

OFFSETS = (5, 14, 24, 36, 48, 64, 80, 100)  # points of type, tried from near to far
SLOPES = (0, 0.4, -0.4, 0.8, -0.8, 1.6, -1.6)
DIRECTIONS = (*((across, up) for up in SLOPES for across in (1, -1)), (0, 1), (0, -1))


def place_labels(
    axes: Axes, x: ArrayLike, y: ArrayLike, half: ArrayLike, texts: Sequence[str]
) -> None:
    """Write each text near its point (data coordinates), greedily at the first free place beside
    the points and their intervals y +- half. Points with an empty text are only kept clear.

    Needs the layout to be final (`draw_without_rendering`). A label far from its point gets a
    thin leader line; where no place is free the last one tried is used.
    """
    places = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    points = axes.transData.transform(places)
    spread = np.stack([np.zeros(len(places)), np.asarray(half, float)], axis=1)
    lows, highs = (axes.transData.transform(places + sign * spread) for sign in (-1, 1))
    unit = axes.figure.dpi / 72
    taken = [
        Bbox.from_extents(px - 4 * unit, low - 4 * unit, px + 4 * unit, high + 4 * unit)
        for (px, _), low, high in zip(points, lows[:, 1], highs[:, 1], strict=True)
    ]
    for index in map(int, np.argsort(points[:, 1])):
        if not (text := texts[index]):
            continue
        spot, box, far = _free_place(axes, points[index], text, taken, unit)
        taken.append(box)
        dx, dy = spot
        axes.annotate(
            text,
            tuple(places[index]),
            xytext=(dx, dy),
            textcoords="offset points",
            fontsize=7.5,
            color=INK,
            ha="left" if dx > 0 else "right" if dx < 0 else "center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.5} if far else None,
        )


def _free_place(
    axes: Axes, point: np.ndarray, text: str, taken: list[Bbox], unit: float
) -> tuple[tuple[float, float], Bbox, bool]:
    width, height = 4.6 * len(text) * unit, 10 * unit  # an upper bound on the type's extent
    frame = axes.get_window_extent()
    spot, box, far = (OFFSETS[0], 0.0), Bbox.null(), False
    for distance in OFFSETS:
        for across, up in DIRECTIONS:
            if across == 0 and distance < 10:
                continue
            spot, far = (across * distance, up * distance), distance > 5
            left = point[0] + spot[0] * unit - (0 if across > 0 else width if across else width / 2)
            box = Bbox.from_bounds(left, point[1] + spot[1] * unit - height / 2, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0
            if not inside or box.y1 > frame.y1 or any(box.overlaps(other) for other in taken):
                continue
            leader = MplPath([point, point + np.multiply(spot, unit)])
            apart = [other for other in taken if not other.contains(*point)]
            if not any(leader.intersects_bbox(other, filled=False) for other in apart):
                return spot, box, far
    return spot, box, far
