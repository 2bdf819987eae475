"""How a curve with its error is drawn on logarithmic axes, the same in every figure.

A band is one standard error to both sides, cut off at the axis' lower end, and faint where the error exceeds the value:
on a logarithmic axis such a band reaches down without end, and several would hide the lines. A value at or below that
end, as noise makes some of chi_pos_unbiased, is marked by a triangle there and leaves a gap in the line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from spectral_reach.figures.points import Point
from spectral_reach.figures.style import FAINT, SMALL_SIZE

Colour = tuple[float, ...]

DOTS = (0, (1, 1.4))
DASHES = (0, (3.2, 1.6))
BELOW: Mapping[str, Any] = {
    "marker": "v",
    "markersize": 3.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.7,
    "linestyle": "none",
}
DOTTED: Mapping[str, Any] = {"linewidth": 0.9, "linestyle": DOTS}
DASHED: Mapping[str, Any] = {"linewidth": 1.1, "linestyle": DASHES}
MARKED: Mapping[str, Any] = {"marker": "o", "markersize": 1.8}
BAND_ALPHA, FAINT_BAND_ALPHA = 0.2, 0.05


def floor_of(points: Sequence[Point]) -> float:
    """A lower end of the axis: a little below the lowest upper end of an error bar.

    A mean far inside its own error would otherwise stretch the axis over decades that hold nothing but noise.
    """
    ends = [p.value + (0 if math.isnan(p.stderr) else p.stderr) for p in points]
    return 0.5 * min((end for end in ends if end > 0), default=1e-9)


def ceiling_of(points: Sequence[Point], floor: float) -> float:
    """An upper end: a little above the highest value; error bars of single windows may leave the panel."""
    return 1.5 * max((p.value for p in points if p.value > floor), default=10 * floor)


def flops_of(point: Point) -> float:
    """Where a point of training lies."""
    return point.flops


def draw_band(
    axes: Axes, curve: Sequence[Point], floor: float, colour: Colour, along: Callable[[Point], float] = flops_of
) -> None:
    """One standard error to both sides of the curve; ``along`` gives the horizontal place of a point."""
    x = [along(p) for p in curve]
    low, high = [p.value - p.stderr for p in curve], [p.value + p.stderr for p in curve]
    for rows, is_sure in stretches(low, high, floor):
        alpha = BAND_ALPHA if is_sure else FAINT_BAND_ALPHA
        ends = [max(low[i], floor) for i in rows], [high[i] for i in rows]
        axes.fill_between([x[i] for i in rows], *ends, color=colour, alpha=alpha, linewidth=0)


def stretches(low: Sequence[float], high: Sequence[float], floor: float | None) -> Iterator[tuple[list[int], bool]]:
    """The rows of each piece of a band from ``low`` to ``high``, and whether ``low`` stays above 0 there.

    Rows whose ends are unknown, or that lie wholly at or below ``floor``, are in none; neighbouring pieces share a row.
    Without a floor the axis is linear, where 0 is a value like others.
    """
    lowest = -math.inf if floor is None else floor

    def kind(pair: tuple[int, int]) -> bool | None:
        if any(math.isnan(low[i]) or math.isnan(high[i]) or high[i] <= lowest for i in pair):
            return None
        return floor is None or all(low[i] > 0 for i in pair)

    for is_sure, stretch in groupby(pairwise(range(len(low))), key=kind):
        pairs = list(stretch)
        if is_sure is not None:
            yield [pairs[0][0], *(second for _, second in pairs)], is_sure


def draw_line(
    axes: Axes,
    curve: Sequence[Point],
    floor: float,
    colour: Colour,
    look: Mapping[str, Any] = MARKED,
    along: Callable[[Point], float] = flops_of,
) -> None:
    """The values, with triangles for those at or below ``floor``; ``along`` as for the band."""
    x = [along(p) for p in curve]
    axes.plot(x, [p.value if p.value > floor else math.nan for p in curve], color=colour, **look)
    if below := [along(p) for p in curve if p.value <= floor]:
        axes.plot(below, [floor] * len(below), color=colour, clip_on=False, zorder=4, **BELOW)


def draw_mini_batch(axes: Axes, curve: Sequence[Point], colour: Colour) -> None:
    """Dotted, and broken where the number of units changes: the values on both sides are not the same quantity."""
    for _, stretch in groupby(curve, key=lambda p: p.n_units):
        part = list(stretch)
        marker = "." if len(part) == 1 else "none"  # a line through one point is invisible
        x, y = [p.flops for p in part], [p.value for p in part]
        axes.plot(x, y, color=colour, marker=marker, markersize=2, **DOTTED)


def key_line(label: str, **look: Any) -> Artist:
    """An entry of a key: a grey line, for it stands for every size."""
    return Line2D([], [], color=FAINT, label=label, **look)


def key_band(points: Sequence[Point]) -> Artist:
    """The entry of the band, with what its error is over."""
    runs = sorted({point.runs for point in points if point.runs is not None and not math.isnan(point.stderr)})
    seeds = ""
    if runs and runs[-1] > 1:
        seeds = f", over {_span(runs)} seeds" if runs[0] > 1 else ", over seeds where there are several"
    faint = "; faint where it exceeds the value" if any(point.stderr >= point.value for point in points) else ""
    return Patch(facecolor=FAINT, alpha=0.25, label=f"± 1 standard error{seeds}{faint}")


def key_below(*, is_drawn: bool) -> list[Artist]:
    """The entry of the triangles, where there are any."""
    return [key_line("≤ 0 or off the axis", **BELOW)] if is_drawn else []


def any_below(points: Sequence[Point], floor: float) -> bool:
    """Whether a triangle stands for one of these."""
    return any(point.value <= floor for point in points)


def key_mini_batch(points: Sequence[Point], name: str = "chi_pos") -> Artist:
    """The entry of the dotted lines; it says so where they break."""
    units: dict[int, set[int | None]] = {}
    for point in points:
        if point.quantity == name:
            units.setdefault(point.parameters, set()).add(point.n_units)
    breaks = "; breaks where its size changes" if any(len(of_size) > 1 for of_size in units.values()) else ""
    return key_line(f"{name} of the mini-batch{breaks}", **DOTTED)


def note(axes: Axes, text: str) -> None:
    """Say in the middle of an empty panel why it is empty."""
    axes.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", color=FAINT, fontsize=SMALL_SIZE)


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if numbers[0] == numbers[-1] else f"{numbers[0]} to {numbers[-1]}"
