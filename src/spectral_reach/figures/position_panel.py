"""A panel of spectral position against compute: chi_pos_unbiased with its error, and chi_pos of the mini-batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from spectral_reach.figures.fig1_data import Point
from spectral_reach.figures.style import FAINT, SizeColours, log_axis, log_compute_axis

DOTS = (0, (1, 1.4))
BELOW: Mapping[str, Any] = {
    "marker": "v",
    "markersize": 3.5,
    "markerfacecolor": "none",
    "markeredgewidth": 0.7,
    "linestyle": "none",
}


def draw_positions(axes: Axes, points: Sequence[Point], colours: SizeColours) -> None:
    """Draw the ``chi_pos`` and ``chi_pos_unbiased`` points of every run."""
    log_compute_axis(axes, labelled=True)
    positions = [p for p in points if p.quantity in ("chi_pos", "chi_pos_unbiased") and not math.isnan(p.value)]
    floor = _floor(positions)
    log_axis(axes, floor, _ceiling(positions, floor))
    for run in dict.fromkeys(point.run for point in positions):
        of_run = [point for point in positions if point.run == run]
        colour = colours(of_run[0].parameters)
        unbiased = [point for point in of_run if point.quantity == "chi_pos_unbiased"]
        _draw_band(axes, unbiased, floor, colour)
        _draw_line(axes, unbiased, floor, colour)
        _draw_mini_batch(axes, [point for point in of_run if point.quantity == "chi_pos"], colour)


def key_of_lines(points: Sequence[Point]) -> list[Artist]:
    """What the lines mean, for a legend that all panels share."""
    units: dict[str | None, set[int | None]] = {}
    for point in points:
        if point.quantity == "chi_pos":
            units.setdefault(point.run, set()).add(point.n_units)
    breaks = "; breaks where its size changes" if any(len(of_run) > 1 for of_run in units.values()) else ""
    return [
        Line2D([], [], color=FAINT, marker="o", markersize=2, label="chi_pos_unbiased"),
        Patch(facecolor=FAINT, alpha=0.25, label="± 1 standard error"),
        Line2D([], [], color=FAINT, label="≤ 0 or off the axis", **BELOW),
        Line2D([], [], color=FAINT, linewidth=0.9, linestyle=DOTS, label=f"chi_pos of the mini-batch{breaks}"),
    ]


def _floor(positions: Sequence[Point]) -> float:
    """The lower end of the axis: a little below the lowest upper end of an error bar.

    A mean far inside its own error would otherwise stretch the axis over decades that hold nothing but noise.
    """
    ends = [p.value + (0 if math.isnan(p.stderr) else p.stderr) for p in positions]
    return 0.5 * min((end for end in ends if end > 0), default=1e-9)


def _ceiling(positions: Sequence[Point], floor: float) -> float:
    """The upper end: a little above the highest value; error bars of single windows may leave the panel."""
    return 1.5 * max((p.value for p in positions if p.value > floor), default=10 * floor)


def _draw_band(axes: Axes, curve: Sequence[Point], floor: float, colour: tuple[float, ...]) -> None:
    for known, stretch in groupby(curve, key=lambda p: not math.isnan(p.stderr) and p.value + p.stderr > floor):
        part = list(stretch)
        if known:
            low = [max(p.value - p.stderr, floor) for p in part]
            high = [p.value + p.stderr for p in part]
            axes.fill_between([p.flops for p in part], low, high, color=colour, alpha=0.2, linewidth=0)


def _draw_line(axes: Axes, curve: Sequence[Point], floor: float, colour: tuple[float, ...]) -> None:
    x = [p.flops for p in curve]
    axes.plot(x, [p.value if p.value > floor else math.nan for p in curve], color=colour, marker="o", markersize=1.8)
    below = [p.flops for p in curve if p.value <= floor]
    axes.plot(below, [floor] * len(below), color=colour, clip_on=False, zorder=4, **BELOW)


def _draw_mini_batch(axes: Axes, curve: Sequence[Point], colour: tuple[float, ...]) -> None:
    """Broken where the number of units changes: the values on both sides are not the same quantity."""
    for _, stretch in groupby(curve, key=lambda p: p.n_units):
        part = list(stretch)
        marker = "." if len(part) == 1 else "none"  # a line through one point is invisible
        x, y = [p.flops for p in part], [p.value for p in part]
        axes.plot(x, y, color=colour, linewidth=0.9, linestyle=DOTS, marker=marker, markersize=2)
