"""What holds at every width: sizes of activations (above) and best learning rates (below), side by side.

A column for each model family in each parametrisation. Above: root mean squares of activations after some steps, and of
the change of the logits, relative to those of the narrowest model. Below: loss against learning rate, a line for each
width, with a mark at the best rate. Bars are one standard error over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from spectral_reach.figures import caption
from spectral_reach.figures.coordinate_check_data import COLUMNS, Point, as_row, points_of
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.folders import only_folder
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, TITLE_SIZE, SizeColours, style
from spectral_reach.studies.analysis.coordinate_check import CoordinateCheck, SideResult, read_coordinate_check
from spectral_reach.studies.analysis.coordinate_check_report import KIND_NAMES, describe_rates, describe_sizes, label

NAME = "coordinate-check"

# Inches.
COLUMN, PANEL_HEIGHT = 1.72, 1.85
LEFT, RIGHT, GAP, FAMILY_GAP, ROW_GAP = 0.66, 0.10, 0.18, 0.46, 0.78
HEAD, AXIS_LABEL, BOTTOM = 0.62, 0.50, 0.12

# Okabe and Ito's colours, safe for colour-blind readers.
_LOOKS: Mapping[str, Mapping[str, Any]] = {
    "queries": {"color": "#0072B2", "marker": "^"},
    "attention": {"color": "#E69F00", "marker": "s"},
    "mlp": {"color": "#009E73", "marker": "D"},
    "stream": {"color": "#CC79A7", "marker": "v"},
    "change of logits": {"color": INK, "marker": "o"},
}
_BARS: Mapping[str, Any] = {"markersize": 3.0, "linewidth": 1.1, "elinewidth": 0.7, "capsize": 1.3}
_FLAT: Mapping[str, Any] = {"color": FAINT, "linewidth": 0.8, "linestyle": (0, (4, 2)), "zorder": 0}
_FEW_DECADES = 2.4
_READING = (
    "Above: relative to the narrowest model; dashed: independent of the width. Below: marks are best rates. Bars: one "
    "standard error over seeds."
)


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of one study folder as ``out/coordinate-check.*`` with its data as CSV; returns the files.

    Raises:
        NothingToDrawError: no size has been taken at two widths.
        ValueError: an unknown format, or several folders.
        ForeignFolderError: the folder is no coordinate check, or cannot be read.
        RecordError: a result cannot be read, or ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    study = only_folder(studies, NAME)
    result = read_coordinate_check(study)
    if not any(side.sizes for side in result.sides):
        raise NothingToDrawError(f"{study} has no sizes at two widths yet: got nothing to draw; run the study further.")
    points = [point for side in result.sides for point in points_of(side)]
    with style():
        figure = _figure(result, points)
        files = save_figure(figure, out / NAME, formats)
    return (*files, save_rows([as_row(point) for point in points], COLUMNS, out / f"{NAME}.csv"))


def _figure(result: CoordinateCheck, points: Sequence[Point]) -> Figure:
    lefts = [LEFT]
    for before, side in pairwise(result.sides):
        # A model family has a scale of losses of its own, with its numbers to the left.
        same = before.side.family == side.side.family
        lefts.append(lefts[-1] + COLUMN + (GAP if same else FAMILY_GAP))
    width = lefts[-1] + COLUMN + RIGHT
    words = caption.wrap(f"{describe_sizes(result)} {describe_rates(result)} {_READING}", width - LEFT - RIGHT)
    foot = AXIS_LABEL + caption.height(words) + BOTTOM
    height = HEAD + 2 * PANEL_HEIGHT + ROW_GAP + foot
    figure = Figure(figsize=(width, height))
    swept = sorted({point.width for point in points if point.quantity == "loss"})
    colours = SizeColours(swept or [1])
    for column, (side, left) in enumerate(zip(result.sides, lefts, strict=True)):
        for row in (0, 1):
            bottom = foot + (1 - row) * (PANEL_HEIGHT + ROW_GAP)
            axes = figure.add_axes((left / width, bottom / height, COLUMN / width, PANEL_HEIGHT / height))
            if row == 0:
                axes.set_title(label(side), loc="left", fontsize=TITLE_SIZE)
                _draw_sizes(axes, side, points, first=column == 0)
            else:
                _draw_losses(axes, side, points, colours)
                if column == 0:
                    axes.set_ylabel("loss at the end (nats)")
                elif result.sides[column - 1].side.family == side.side.family:
                    axes.tick_params(labelleft=False)
    _keys(figure, result, points, swept, colours, middle=(foot + PANEL_HEIGHT + ROW_GAP - AXIS_LABEL) / height)
    caption.write(figure, words, left=LEFT, top=foot - AXIS_LABEL)
    return figure


def _draw_sizes(axes: Axes, side: SideResult, points: Sequence[Point], *, first: bool) -> None:
    """One scale for all sides, so that slopes can be compared by eye."""
    everywhere = [point for point in points if point.quantity == "size"]
    axes.axhline(1, **_FLAT)
    for kind, look in _LOOKS.items():
        curve = [point for point in _of(side, everywhere) if point.kind == kind]
        _bars(axes, [point.width for point in curve], curve, [point.relative for point in curve], **look)
    widths = sorted({point.width for point in everywhere})
    _width_axis(axes, widths)
    drawn = [value for point in everywhere for value in (point.relative, point.low, point.high) if math.isfinite(value)]
    _relative_axis(axes, min(drawn) / 1.3, max(drawn) * 1.3)
    if first:
        axes.set_ylabel(f"size relative to width {widths[0]:,}")
    else:
        axes.tick_params(labelleft=False)


def _draw_losses(axes: Axes, side: SideResult, points: Sequence[Point], colours: SizeColours) -> None:
    """One scale for all sides of a model family: they learn the same data."""
    losses = [p for p in points if p.quantity in ("loss", "best")]
    of_family = [p.value for p in losses if p.family == side.side.family]
    if not of_family:
        axes.set_axis_off()
        return
    for width in sorted({point.width for point in losses}):
        curve = [point for point in _of(side, losses) if point.width == width]
        line = [point for point in curve if point.quantity == "loss"]
        best = [point for point in curve if point.quantity == "best"]
        look = {"color": colours(width), "marker": "."}
        _bars(axes, [point.rate or math.nan for point in line], line, [point.value for point in line], **look)
        for point in best:
            assert point.rate is not None
            axes.axvline(point.rate, color=colours(width), linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=0)
            axes.plot([point.rate], [point.value], **_MARK, color=colours(width))
    rates = sorted({point.rate for point in losses if point.rate is not None and point.quantity == "loss"})
    axes.set_xscale("log", base=2)
    axes.set_xlim(rates[0] / 1.3, rates[-1] * 1.3)
    axes.xaxis.set_major_locator(FixedLocator(rates[:: max(1, math.ceil(len(rates) / 5))]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rf"$2^{{{round(math.log2(value))}}}$"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("learning rate")
    room = 0.06 * (max(of_family) - min(of_family) or 1.0)
    axes.set_ylim(min(of_family) - room, max(of_family) + room)


def _of(side: SideResult, points: Sequence[Point]) -> list[Point]:
    wanted = (side.side.family, side.side.parametrisation)
    return [point for point in points if (point.family, point.parametrisation) == wanted]


def _bars(axes: Axes, x: Sequence[float], curve: Sequence[Point], y: Sequence[float], **look: Any) -> None:
    below = [0.0 if math.isnan(p.low) else value - p.low for p, value in zip(curve, y, strict=True)]
    above = [0.0 if math.isnan(p.high) else p.high - value for p, value in zip(curve, y, strict=True)]
    axes.errorbar(x, y, yerr=(below, above), **look, **_BARS)


def _width_axis(axes: Axes, widths: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(widths[0] / 1.2, widths[-1] * 1.2)
    axes.xaxis.set_major_locator(FixedLocator(widths))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("width")


def _relative_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of plain numbers; 2 and 5 of a decade where that is not too many."""
    mantissas = (1, 2, 5) if math.log10(high / low) < _FEW_DECADES else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator([m * 10.0**e for e in exponents for m in mantissas]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _keys(
    figure: Figure,
    result: CoordinateCheck,
    points: Sequence[Point],
    swept: Sequence[int],
    colours: SizeColours,
    *,
    middle: float,
) -> None:
    """Kinds above the upper row, widths above the lower one, where they cover nothing."""
    width, height = figure.get_size_inches()
    place: dict[str, Any] = {
        "loc": "upper left",
        "borderaxespad": 0,
        "borderpad": 0,
        "handlelength": 1.6,
        "columnspacing": 1.4,
        "handletextpad": 0.5,
        "title_fontsize": SMALL_SIZE,
        "alignment": "left",
    }
    kinds = {point.kind for point in points if point.quantity == "size"}
    handles = [
        Line2D([], [], linewidth=1.1, markersize=3.0, label=KIND_NAMES.get(kind, kind), **look)
        for kind, look in _LOOKS.items()
        if kind in kinds
    ]
    top = (LEFT / width, (height - 0.08) / height)
    title = f"root mean square after {result.settings['steps']} steps"
    figure.legend(handles=handles, bbox_to_anchor=top, ncols=len(handles), title=title, **place)
    if swept:
        lines = [Line2D([], [], color=colours(w), linewidth=2.2, label=f"{w:,}") for w in swept]
        figure.legend(handles=lines, bbox_to_anchor=(LEFT / width, middle), ncols=len(lines), title="width", **place)


_MARK: Mapping[str, Any] = {
    "marker": "D",
    "markersize": 4.0,
    "markerfacecolor": "white",
    "markeredgewidth": 1.0,
    "linestyle": "none",
    "zorder": 4,
}
