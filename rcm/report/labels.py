"""Direct labels beside points, moved apart until they neither overlap nor cover a point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from rcm.report.style import INK, MUTED

OFFSETS = (5, 14, 24, 36, 48)  # points of type, tried from near to far
DIRECTIONS = ((1, 0), (-1, 0), (1, 0.8), (-1, 0.8), (1, -0.8), (-1, -0.8), (0, 1), (0, -1))


def place_labels(axes: Axes, x: Sequence, y: Sequence, texts: Sequence[str]) -> None:
    """Write each text near its point (data coordinates), greedily at the first free place.

    Needs the layout to be final (`draw_without_rendering`). A label far from its point gets a
    thin leader line; where no place is free the last one tried is used.
    """
    points = axes.transData.transform(np.column_stack([x, y]))
    unit = axes.figure.dpi / 72
    taken = [Bbox.from_bounds(*(point - 4 * unit), 8 * unit, 8 * unit) for point in points]
    for index in np.argsort(points[:, 1]):
        spot, box, far = _free_place(axes, points[index], texts[index], taken, unit)
        taken.append(box)
        dx, dy = spot
        axes.annotate(
            texts[index],
            points[index],
            xytext=(dx, dy),
            xycoords="figure pixels",
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
            spot, far = (across * distance, up * distance), distance > 14
            left = point[0] + spot[0] * unit - (0 if across > 0 else width if across else width / 2)
            box = Bbox.from_bounds(left, point[1] + spot[1] * unit - height / 2, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0
            if inside and box.y1 <= frame.y1 and not any(box.overlaps(other) for other in taken):
                return spot, box, far
    return spot, box, far
