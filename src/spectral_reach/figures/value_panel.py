"""A panel of positive quantities against compute, such as chi_loss and chi_net: every size, with its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from spectral_reach.figures.curves import draw_band
from spectral_reach.figures.points import Point, known, of_sizes
from spectral_reach.figures.style import SizeColours, log_compute_axis, log_plain_axis

SHARE = 0.08  # of the logarithm of the range, above and below what is drawn
LEAST = 1.05  # a factor


def draw_values(
    axes: Axes,
    points: Sequence[Point],
    colours: SizeColours,
    looks: Mapping[str, Mapping[str, Any]],
    *,
    labelled: bool = True,
    beside: Sequence[Point] = (),
) -> None:
    """Draw the quantities that ``looks`` has a line for.

    ``labelled``: whether the axis of compute has its name and numbers. ``beside``: points of other panels that the
    vertical axis has to hold too.
    """
    log_compute_axis(axes, labelled=labelled)
    low, high = limits([*points, *beside], *looks)
    log_plain_axis(axes, low, high)
    for size, of_size in of_sizes(known(points, *looks)):
        for quantity, look in looks.items():
            curve = known(of_size, quantity)
            draw_band(axes, curve, low, colours(size))
            marker = "." if len(curve) == 1 else look.get("marker", "none")  # a line through one point is invisible
            axes.plot(
                [p.flops for p in curve], [p.value for p in curve], color=colours(size), **{**look, "marker": marker}
            )


def limits(points: Sequence[Point], *quantities: str) -> tuple[float, float]:
    """The ends of an axis that holds the positive values of these quantities; their bars may leave it."""
    values = [point.value for point in known(points, *quantities) if point.value > 0]
    low, high = min(values, default=1.0), max(values, default=1.0)
    room = max((high / low) ** SHARE, LEAST)
    return low / room, high * room
