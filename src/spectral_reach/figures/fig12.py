"""Figure 12 of the paper: the empirical kernel's spectrum and the loss gradient on it, before and after training.

Left: the normalised eigenvalues p_k. Middle: the shares gamma_k^2 of the squared loss gradient. Right: their product,
whose sum is chi_pos. Dashed at initialisation, solid after training. Lines are means over sequences, of gamma_k^2 and
its product also over bins of equal width in log k; bands are one standard error over sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_reach.figures import caption
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.fig12_data import COLUMNS, QUANTITIES, Point, points_of
from spectral_reach.figures.folders import only_folder
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.spectrum_panels import GRADIENT, MODES, REDUCTION
from spectral_reach.figures.style import INK, log_axis, style
from spectral_reach.studies.analysis.spectra import SpectraResult, read_spectra
from spectral_reach.studies.analysis.spectra_report import STUDY, describe

NAME = "fig12"

# Inches.
COLUMN, PANEL_HEIGHT = 2.0, 2.0
LEFT, RIGHT, GAP = 0.62, 0.12, 0.62
HEAD, AXIS_LABEL, BOTTOM = 0.42, 0.46, 0.12

_COLOURS = {"p": MODES, "gamma2": GRADIENT, "product": REDUCTION}
_LABELS = {"p": "$p_k$", "gamma2": r"$\gamma_k^2$", "product": r"$\gamma_k^2\, p_k$"}
_INITIAL: Mapping[str, Any] = {"linestyle": (0, (3, 1.6)), "linewidth": 1.0}
_TRAINED: Mapping[str, Any] = {"linestyle": "-", "linewidth": 1.3}
_DECADES = 9
"""What a panel shows at most."""


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of a study folder as ``out/fig12.*``, with its data as ``out/fig12.csv``; returns the files.

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
    return (*files, save_rows([asdict(point) for point in points], COLUMNS, out / f"{NAME}.csv"))


def _figure(result: SpectraResult, points: Sequence[Point]) -> Figure:
    width = LEFT + 3 * COLUMN + 2 * GAP + RIGHT
    words = caption.wrap(describe(result), width - LEFT - RIGHT)
    foot = AXIS_LABEL + caption.height(words) + BOTTOM
    height = HEAD + PANEL_HEIGHT + foot
    figure = Figure(figsize=(width, height))
    for place, quantity in enumerate(QUANTITIES):
        left = LEFT + place * (COLUMN + GAP)
        axes = figure.add_axes((left / width, foot / height, COLUMN / width, PANEL_HEIGHT / height))
        _draw(axes, [point for point in points if point.quantity == quantity], _COLOURS[quantity])
        axes.set_xlabel("mode $k$")
        axes.set_ylabel(_LABELS[quantity])
    steps = sorted({point.step for point in points})
    keys = [Line2D([], [], color=INK, label=_name(step), **_line(step, steps)) for step in steps]
    figure.legend(
        handles=keys,
        loc="upper left",
        bbox_to_anchor=(LEFT / width, (height - 0.1) / height),
        ncols=len(keys),
        borderaxespad=0,
        borderpad=0,
        handlelength=2.6,
    )
    caption.write(figure, words, left=LEFT, top=foot - AXIS_LABEL)
    return figure


def _draw(axes: Axes, points: Sequence[Point], colour: str) -> None:
    steps = sorted({point.step for point in points})
    top = max(point.value for point in points)
    shown = [point for point in points if point.value > top * 10.0**-_DECADES]
    for step in steps:
        curve = [point for point in shown if point.step == step]
        k, value = np.array([p.k for p in curve]), np.array([p.value for p in curve])
        stderr = np.nan_to_num(np.array([p.stderr for p in curve]))
        axes.plot(k, value, color=colour, **_line(step, steps))
        axes.fill_between(
            k, np.maximum(value - stderr, value / 10), value + stderr, color=colour, alpha=0.15, linewidth=0
        )
    axes.set_xscale("log")
    low = min(point.value for point in shown)
    log_axis(axes, low / 1.5, top * 1.5)


def _line(step: int, steps: Sequence[int]) -> Mapping[str, Any]:
    return _INITIAL if step == steps[0] and len(steps) > 1 else _TRAINED


def _name(step: int) -> str:
    return "at initialisation" if step == 0 else f"after {step:,} steps"
