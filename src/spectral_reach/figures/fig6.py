"""Figure 6 of the paper: Hutchinson's estimator of chi_net on a trained Llama, and our estimators in the same axes.

a: averages of M draws, each of disjoint draws, with one standard deviation of them. b: their coefficient of variation
against M, with the fitted power. c: that of one draw at other sizes and times of training. d: what b shows, against the
seconds that the draws take. Bars are 95% intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from spectral_reach.figures import caption
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.fig6_data import COLUMNS, Point, as_row, points_of
from spectral_reach.figures.folders import only_folder
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, TITLE_SIZE, SizeColours, style
from spectral_reach.studies.analysis.convergence import Convergence, Row, read_convergence
from spectral_reach.studies.analysis.convergence_report import describe
from spectral_reach.studies.analysis.numbers import interval, power_of_ten, signed, size

NAME = "fig6"

# Inches.
COLUMN, PANEL_HEIGHT = 2.75, 1.95
LEFT, RIGHT, GAP, ROW_GAP = 0.62, 0.12, 0.72, 0.72
HEAD, AXIS_LABEL, BOTTOM = 0.82, 0.50, 0.12

_READING = (
    "Averages of one M share no draw. Grey in a: one standard deviation of the averages. Bars: 95% intervals. Seconds "
    "as measured where the study ran, without the forward pass that draws share."
)
# Okabe and Ito's colours, safe for colour-blind readers; by estimator, and whether it measures some units only.
_LOOKS: Mapping[tuple[str, bool], Mapping[str, Any]] = {
    ("batch", False): {"color": INK, "marker": "o"},
    ("one_for_all", False): {"color": "#E69F00", "marker": "s"},
    ("per_unit", False): {"color": "#0072B2", "marker": "^"},
    ("per_unit", True): {"color": "#CC79A7", "marker": "D"},
}
_BARS: Mapping[str, Any] = {"markersize": 3.2, "linewidth": 1.0, "elinewidth": 0.8, "capsize": 1.5}
_DOTS: Mapping[str, Any] = {
    "color": INK,
    "marker": "o",
    "markersize": 2.0,
    "alpha": 0.3,
    "linestyle": "none",
    "markeredgewidth": 0,
}
_FEW_DECADES = 2.4
_ASIDE, _ASIDE_OF_STEP = 1.03, 0.07  # a factor on logarithmic axes, a share of the way to the next snapshot
_ROOM_FOR_TEXT = 1.6
_FIT: Mapping[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 1}


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of a study folder as ``out/fig6.*``, with its data as ``out/fig6.csv``; returns the files.

    Raises:
        NothingToDrawError: Hutchinson's row on the trained model has too few draws yet.
        ValueError: an unknown format, or more than one folder.
        ForeignFolderError: the folder is no study of convergence, or cannot be read.
        RecordError: a result cannot be read, or ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    study = only_folder(studies, NAME)
    result = read_convergence(study)
    if result.main is None or not result.main.points:
        raise NothingToDrawError(f"{study} has too few draws yet: got nothing to draw; run the study further.")
    points = points_of(result)
    with style():
        figure = _figure(result, points)
        files = save_figure(figure, out / NAME, formats)
    return (*files, save_rows([as_row(point) for point in points], COLUMNS, out / f"{NAME}.csv"))


def _figure(result: Convergence, points: Sequence[Point]) -> Figure:
    width = LEFT + 2 * COLUMN + GAP + RIGHT
    words = caption.wrap(f"{describe(result)} {_READING}", width - LEFT - RIGHT)
    foot = AXIS_LABEL + caption.height(words) + BOTTOM
    height = HEAD + 2 * PANEL_HEIGHT + ROW_GAP + foot
    figure = Figure(figsize=(width, height))

    def panel(column: int, row: int, title: str) -> Axes:
        left = LEFT + column * (COLUMN + GAP)
        bottom = foot + (1 - row) * (PANEL_HEIGHT + ROW_GAP)
        axes = figure.add_axes((left / width, bottom / height, COLUMN / width, PANEL_HEIGHT / height))
        axes.set_title(title, loc="left", fontsize=TITLE_SIZE)
        return axes

    colours = SizeColours(row.parameters for row in result.along)
    _draw_averages(panel(0, 0, "a  Hutchinson's estimate"), points)
    _draw_variations(panel(1, 0, "b  its spread, and that of ours"), result, points)
    _draw_singles(panel(0, 1, "c  one Hutchinson draw, in training"), points, colours)
    _draw_costs(panel(1, 1, "d  the spread for the time it takes"), result, points)
    _keys(figure, result, colours, left=LEFT / width, top=height)
    caption.write(figure, words, left=LEFT, top=foot - AXIS_LABEL)
    return figure


def _draw_averages(axes: Axes, points: Sequence[Point]) -> None:
    averages = [point for point in points if point.quantity == "average"]
    means = [point for point in points if point.quantity == "mean"]
    exponent = math.floor(math.log10(means[0].value))
    unit = 10.0**exponent
    m = [point.averaged for point in means]
    low, high = [p.low / unit for p in means], [p.high / unit for p in means]
    axes.fill_between(m, low, high, color=FAINT, alpha=0.25, linewidth=0)
    axes.plot(m, [p.value / unit for p in means], color=INK, linewidth=0.9)
    axes.plot([p.averaged for p in averages], [p.value / unit for p in averages], **_DOTS)
    _draws_axis(axes, m)
    axes.set_ylabel(f"estimate of chi_net (×{power_of_ten(exponent)})")


def _draw_variations(axes: Axes, result: Convergence, points: Sequence[Point]) -> None:
    """All curves fall: the upper right corner is free for the power."""
    assert result.main is not None
    power = result.main.power
    _draw_ways(axes, result, points, lambda point: point.averaged, aside=_ASIDE)
    _variation_axis(axes, [point for point in points if point.quantity == "variation"], room=_ROOM_FOR_TEXT)
    _draws_axis(axes, [point.averaged for point in points if point.quantity == "mean"])
    axes.set_ylabel("coefficient of variation")
    if power.reason is None:
        text = f"∝ $M^{{{signed(power.exponent)}}}$\n95%: {interval(power.low, power.high)}"
        axes.annotate(
            text,
            (1, 1),
            xycoords="axes fraction",
            xytext=(-2, -2),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=SMALL_SIZE,
        )


def _draw_singles(axes: Axes, points: Sequence[Point], colours: SizeColours) -> None:
    """Snapshots stand side by side: step 0 has no place on a logarithmic axis."""
    singles = [point for point in points if point.quantity == "variation_of_one"]
    steps = sorted({point.step for point in singles})
    sizes = sorted({point.parameters for point in singles})
    for i, parameters in enumerate(sizes):
        curve = [point for point in singles if point.parameters == parameters]
        aside = _ASIDE_OF_STEP * (i - (len(sizes) - 1) / 2)
        _bars(axes, [steps.index(p.step) + aside for p in curve], curve, color=colours(parameters), marker="o")
    axes.set_xlim(-0.3, max(len(steps) - 0.7, 0.3))
    axes.xaxis.set_major_locator(FixedLocator(range(len(steps))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{steps[round(place)]:,}"))
    _variation_axis(axes, singles)
    axes.set_xlabel("training step")
    axes.set_ylabel("coefficient of variation, M = 1")


def _draw_costs(axes: Axes, result: Convergence, points: Sequence[Point]) -> None:
    _draw_ways(axes, result, points, lambda point: point.seconds)
    variations = [point for point in points if point.quantity == "variation"]
    _variation_axis(axes, variations)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_round(*axes.get_xlim())))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("seconds of drawing")
    axes.set_ylabel("coefficient of variation")


def _draw_ways(
    axes: Axes, result: Convergence, points: Sequence[Point], x: Callable[[Point], float], *, aside: float = 1.0
) -> None:
    """Every estimator's variation against ``x``; where a power is fitted its line stands in for the curve.

    Each estimator stands by a factor of ``aside`` further to the right, so that bars do not cover each other.
    """
    fit = [point for point in points if point.quantity == "fit"]
    if fit:
        axes.plot([x(point) for point in fit], [point.value for point in fit], **_FIT)
    for i, row in enumerate(result.ways):
        curve = _curve(points, row)
        joined = {"linestyle": "none"} if fit and row is result.main else {}
        _bars(axes, [x(point) * aside**i for point in curve], curve, **_look(row), **joined)


def _look(row: Row) -> Mapping[str, Any]:
    return _LOOKS[row.way, row.units > 0]


def _curve(points: Sequence[Point], row: Row) -> list[Point]:
    return [p for p in points if p.quantity == "variation" and (p.way, p.units) == (row.way, row.units)]


def _bars(axes: Axes, x: Sequence[float], curve: Sequence[Point], **look: Any) -> None:
    value = np.array([p.value for p in curve])
    below, above = value - [p.low for p in curve], [p.high for p in curve] - value
    axes.errorbar(x, value, yerr=(below, above), **look, **_BARS)


def _variation_axis(axes: Axes, points: Sequence[Point], *, room: float = 1.15) -> None:
    """A logarithmic axis of percentages around what is drawn, up to ``room`` times the highest."""
    low, high = min(p.low for p in points) / 1.15, max(p.high for p in points) * room
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(_round(low, high)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    axes.yaxis.set_minor_locator(NullLocator())


def _draws_axis(axes: Axes, averaged: Sequence[int]) -> None:
    """A logarithmic axis with the M themselves, in plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(averaged))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("draws averaged, M")


def _round(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``; with 2 and 5 times them where that is not too many."""
    mantissas = (1, 2, 5) if math.log10(high / low) < _FEW_DECADES else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks = [mantissa * 10.0**exponent for exponent in exponents for mantissa in mantissas]
    return [tick for tick in ticks if low <= tick <= high]


def _keys(figure: Figure, result: Convergence, colours: SizeColours, *, left: float, top: float) -> None:
    """Estimators and sizes above the panels, where they cover nothing."""
    place: dict[str, Any] = {
        "loc": "upper left",
        "title_fontsize": SMALL_SIZE,
        "alignment": "left",
        "borderaxespad": 0,
        "borderpad": 0,
        "handlelength": 1.6,
        "columnspacing": 1.4,
        "handletextpad": 0.5,
    }
    ways = [Line2D([], [], linewidth=1.0, markersize=3.2, label=row.label, **_look(row)) for row in result.ways]
    figure.legend(
        handles=ways, bbox_to_anchor=(left, (top - 0.08) / top), ncols=2, title="estimator (a, b, d)", **place
    )
    sizes = [
        Line2D([], [], color=colours(p), linewidth=2.2, label=size(p))
        for p in sorted({row.parameters for row in result.along})
    ]
    figure.legend(handles=sizes, bbox_to_anchor=(0.72, (top - 0.08) / top), ncols=3, title="parameters (c)", **place)
