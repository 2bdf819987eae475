"""A panel of late averages, or of their ratios, against model size: a mark a size, with its 95% interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spectral_reach.figures.curves import BELOW, any_below
from spectral_reach.figures.points import Point, known
from spectral_reach.figures.style import FAINT, SizeColours, log_axis, log_plain_axis, log_size_axis

ASIDE = 1.035  # a factor of size between series that would lie on each other
MARK = 4.0
ROOM = 1.25
_WHITE = "#ffffff"


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """How one quantity is drawn.

    Attributes:
        quantity: of the points.
        label: in the key, where the series has an entry of its own.
        marker: of matplotlib.
        filled: whether the mark is filled.
        aside: places to the right, of ``ASIDE`` each.
    """

    quantity: str
    label: str = ""
    marker: str = "o"
    filled: bool = True
    aside: float = 0.0

    @property
    def line(self) -> dict[str, Any]:
        """Of the line that joins the sizes."""
        return {"linewidth": 0.9, "linestyle": "-" if self.filled else (0, (1, 1.4)), "color": FAINT, "zorder": 1}


def draw_against_size(
    axes: Axes,
    points: Sequence[Point],
    colours: SizeColours,
    series: Sequence[Series],
    *,
    level: float | None = None,
    beside: Sequence[Point] = (),
    labelled: bool = True,
) -> None:
    """Draw the points of these series on logarithmic axes, from ``low`` to ``high`` where they have an interval.

    ``level``: a value to compare with, marked by a line. ``beside``: points of other panels whose sizes, and whose
    values of these series, the axes have to hold too. ``labelled``: whether the axis of size has its name and numbers.
    What is at or below the lower end of the axis is marked there by a triangle. Without any point the panel has no
    axes, for it has no sizes.
    """
    shown = [*points, *beside]
    if not shown:
        axes.set(xticks=[], yticks=[])
        return
    held = known(shown, *(each.quantity for each in series))
    log_size_axis(axes, [point.parameters for point in shown], labelled=labelled)
    low, high = _limits(held, level)
    (log_axis if level is None else log_plain_axis)(axes, low, high)
    if level is not None:
        axes.axhline(level, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    for each in series:
        curve = known(points, each.quantity)
        aside = ASIDE**each.aside
        line = [p.value if p.value > low else math.nan for p in curve]
        axes.plot([p.parameters * aside for p in curve], line, **each.line)
        for point in curve:
            _mark(axes, point, point.parameters * aside, low, colours(point.parameters), each)


def has_marks_below(
    points: Sequence[Point], series: Sequence[Series], *, level: float | None = None, beside: Sequence[Point] = ()
) -> bool:
    """Whether ``draw_against_size`` of the same points marks any that lie below the axis."""
    names = [each.quantity for each in series]
    return any_below(known(points, *names), _limits(known([*points, *beside], *names), level)[0])


def key_of_series(series: Sequence[Series]) -> list[Artist]:
    """What the marks mean."""
    return [
        Line2D(
            [],
            [],
            label=each.label,
            marker=each.marker,
            markersize=MARK,
            markerfacecolor=FAINT if each.filled else _WHITE,
            markeredgecolor=FAINT,
            **each.line,
        )
        for each in series
    ]


def key_mark(label: str, marker: str) -> Artist:
    """An entry for a mark, whatever its filling."""
    return Line2D([], [], label=label, marker=marker, markersize=MARK, color=FAINT, linestyle="none")


def _mark(axes: Axes, point: Point, x: float, floor: float, colour: tuple[float, ...], series: Series) -> None:
    if not math.isnan(point.low) and point.high > floor:
        axes.plot([x, x], [max(point.low, floor), point.high], color=colour, linewidth=0.9, zorder=2)
    if point.value <= floor:
        axes.plot([x], [floor], color=colour, clip_on=False, zorder=4, **BELOW)
        return
    face = colour if series.filled else _WHITE
    look: dict[str, Any] = {"marker": series.marker, "markersize": MARK, "markeredgewidth": 1.0, "linestyle": "none"}
    axes.plot([x], [point.value], markeredgecolor=colour, markerfacecolor=face, zorder=3, **look)


def _limits(points: Sequence[Point], level: float | None) -> tuple[float, float]:
    """Room for every value, and for those ends of intervals that lie within a decade of a value."""
    values = [point.value for point in points if point.value > 0] + ([] if level is None else [level])
    if not values:
        values = [end for point in points for end in (point.high,) if end > 0] or [1.0]
    low, high = min(values), max(values)
    ends = [end for point in points for end in (point.low, point.high) if low / 3 < end < high * 3]
    return min([low, *ends]) / ROOM, max([high, *ends]) * ROOM
