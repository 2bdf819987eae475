"""A figure of ours: where in the spectrum of the full output space the loss is reduced, along training.

Upper left: the share of the loss reduction at and below each normalised eigenvalue, for the largest model at every
snapshot. Upper right: its median along training for every size, with what the Lanczos steps prove of it; for the
largest one also the 10% and 90% quantiles and chi_pos. Lower left: how many of all eigenvalues lie above each, with a
standard error. Lower right: how the certain interval of the median narrows with Lanczos steps. The lower row is of
the largest model at its last snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_reach.figures import caption
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.folders import only_folder
from spectral_reach.figures.loss_reduction_data import COLUMNS, Point, points_of
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, SizeColours, log_axis, style
from spectral_reach.studies.analysis.loss_reduction_report import STUDY, describe
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.spectra import SpectraResult, read_spectra

NAME = "loss-reduction"

# Inches.
COLUMN, PANEL_HEIGHT = 2.55, 2.0
LEFT, RIGHT, GAP, ROW_GAP = 0.62, 0.12, 0.66, 0.62
HEAD, AXIS_LABEL, BOTTOM = 0.48, 0.46, 0.12

Colour = tuple[float, float, float, float]

_EARLY, _LATE = 0.85, 0.05
"""Positions on the ramp of training time, which is not that of size."""


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of a study folder as ``out/loss-reduction.*``, with its data as CSV; returns the files.

    Raises:
        NothingToDrawError: no spectrum has been taken.
        ValueError: an unknown format, or more than one folder.
        ForeignFolderError: the folder is no such study, or cannot be read.
        RecordError: a result cannot be read, or ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    study = only_folder(studies, NAME)
    result = read_spectra(study, STUDY)
    if not result.measured:
        raise NothingToDrawError(f"no spectrum of {study} has been taken: got nothing to draw; run the study first.")
    points = points_of(result)
    with style():
        figure = _figure(result, points)
        files = save_figure(figure, out / NAME, formats)
    rows = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(p).items()} for p in points
    ]
    return (*files, save_rows(rows, COLUMNS, out / f"{NAME}.csv"))


def _figure(result: SpectraResult, points: Sequence[Point]) -> Figure:
    width = LEFT + 2 * COLUMN + GAP + RIGHT
    words = caption.wrap(f"{describe(result)} {_READING}", width - LEFT - RIGHT)
    foot = AXIS_LABEL + caption.height(words) + BOTTOM
    height = HEAD + 2 * PANEL_HEIGHT + ROW_GAP + foot
    figure = Figure(figsize=(width, height))

    def panel(column: int, row: int) -> Axes:
        left = LEFT + column * (COLUMN + GAP)
        bottom = foot + (1 - row) * (PANEL_HEIGHT + ROW_GAP)
        return figure.add_axes((left / width, bottom / height, COLUMN / width, PANEL_HEIGHT / height))

    sizes = SizeColours(result.sizes)
    steps = _step_colours(result.steps_of(result.sizes[-1]))
    _draw_cumulative(panel(0, 0), points, steps)
    _draw_along_training(panel(1, 0), points, sizes)
    _draw_density(panel(0, 1), points)
    _draw_narrowing(panel(1, 1), points)
    top = (height - 0.08) / height
    _key(figure, [(f"{step:,}", colour) for step, colour in steps.items()], "training step", LEFT / width, top)
    second = (LEFT + COLUMN + GAP) / width
    _key(figure, [(size(p), sizes(p)) for p in result.sizes], "parameters", second, top)
    caption.write(figure, words, left=LEFT, top=foot - AXIS_LABEL)
    return figure


def _draw_cumulative(axes: Axes, points: Sequence[Point], colours: dict[int, Colour]) -> None:
    for step, colour in colours.items():
        curve = [point for point in points if point.quantity == "cumulative" and point.step == step]
        axes.step([p.x for p in curve], [p.value for p in curve], where="post", color=colour, linewidth=1.1)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("normalised eigenvalue $p$")
    axes.set_ylabel("loss reduction at and below")


def _draw_along_training(axes: Axes, points: Sequence[Point], colours: SizeColours) -> None:
    drawn: list[float] = []
    sizes = sorted({point.parameters for point in points})
    for parameters in sizes:
        of_size = [point for point in points if point.parameters == parameters and point.quantity == "quantile"]
        low, median, high = ([point for point in of_size if point.x == q] for q in (0.1, 0.5, 0.9))
        x, colour = [point.step for point in median], colours(parameters)
        axes.plot(x, [p.value for p in median], color=colour, marker="o", markersize=2.4)
        axes.vlines(x, [p.low for p in median], [_finite(p) for p in median], color=colour, linewidth=0.8)
        drawn += [p.value for p in median]
        if parameters == sizes[-1]:
            below, above = [p.value for p in low], [p.value for p in high]
            axes.fill_between(x, below, above, color=colour, alpha=0.12, linewidth=0)
            drawn += [*below, *above]
            position = [p for p in points if p.quantity == "chi_pos" and p.parameters == parameters]
            axes.plot(x, [p.value for p in position], color=FAINT, linewidth=0.9, linestyle=(0, (1, 1.4)))
            drawn += [p.value for p in position]
    axes.set_xscale("symlog", linthresh=1)
    log_axis(axes, min(drawn) / 2, min(1.0, max(drawn) * 2))
    axes.set_xlabel("training step")
    axes.set_ylabel("median of the loss reduction, $p$")


def _finite(point: Point) -> float:
    return point.high if math.isfinite(point.high) else 1.0


def _draw_density(axes: Axes, points: Sequence[Point]) -> None:
    curve = [point for point in points if point.quantity == "modes_above" and point.value > 0]
    if not curve:
        axes.text(0.5, 0.5, "not measured yet", ha="center", va="center", transform=axes.transAxes, color=FAINT)
    else:
        # Random vectors see a part of a mode; less than one is their noise.
        x, floor = [p.x for p in curve], max(1.0, min(p.value for p in curve))
        axes.plot(x, [p.value for p in curve], color=INK)
        axes.fill_between(
            x, [max(p.low, floor / 3) for p in curve], [p.high for p in curve], color=INK, alpha=0.15, lw=0
        )
        axes.set_xscale("log")
        log_axis(axes, floor / 2, 3 * max(p.value for p in curve))
    axes.set_xlabel("normalised eigenvalue $p$")
    axes.set_ylabel("eigenvalues above")


def _draw_narrowing(axes: Axes, points: Sequence[Point]) -> None:
    curve = [point for point in points if point.quantity == "narrowing"]
    proven = [point for point in curve if point.low > 0 and math.isfinite(point.high)]
    if not proven:
        axes.text(0.5, 0.5, "too few steps for bounds", ha="center", va="center", transform=axes.transAxes, color=FAINT)
        return
    axes.fill_between(
        [p.x for p in proven], [p.low for p in proven], [p.high for p in proven], color=INK, alpha=0.18, linewidth=0
    )
    for end in ("low", "high"):
        axes.plot([p.x for p in proven], [getattr(p, end) for p in proven], color=INK, linewidth=0.9)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.minorticks_off()
    log_axis(axes, min(p.low for p in proven) / 2, max(p.high for p in proven) * 2)
    axes.set_xlabel("Lanczos steps")
    axes.set_ylabel("median is certain to be, $p$")


def _step_colours(steps: Sequence[int]) -> dict[int, Colour]:
    """By the order of the snapshots, which are spaced evenly in log(step)."""
    ramp = matplotlib.colormaps["plasma"]
    places = np.linspace(_EARLY, _LATE, len(steps)) if len(steps) > 1 else np.array([_LATE])
    colours: dict[int, Colour] = {step: ramp(float(place)) for step, place in zip(steps, places, strict=True)}
    return colours


def _key(figure: Figure, entries: Sequence[tuple[str, Colour]], title: str, x: float, y: float) -> None:
    """Above a column of panels, where it covers nothing."""
    figure.legend(
        handles=[Line2D([], [], color=colour, linewidth=2.2, label=label) for label, colour in entries],
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=len(entries),
        title=title,
        title_fontsize=SMALL_SIZE,
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=0.9,
        columnspacing=0.8,
        handletextpad=0.35,
    )


_READING = (
    "Upper left: the largest model at every snapshot. Upper right: medians of every size with what is certain of them "
    "(bars); of the largest model also the 10% to 90% band and chi_pos (dotted). Below, the largest model at the end: "
    "how many of all eigenvalues lie above p, with one standard error over random vectors (stairs are as fine as the "
    "Lanczos steps resolve), and what the steps prove of the median."
)
