"""Figure 3 of the paper: random ReLU features on power-law data, measured and predicted.

Upper left: the covariance spectra k^-beta. Upper right: the spectrum of the empirical kernel (circles) on that of its
limit, the arc-cosine kernel (lines). Lower left: chi_loss and chi_net, predicted to be 1. Lower right: chi_pos,
predicted to be sum_k p_k^2. Error bars are one standard error over draws of inputs, features and teachers; grey bands
are the tolerances that the study is held to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_reach.figures import caption
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.fig3_data import COLUMNS, Point, as_row, points_of
from spectral_reach.figures.folders import only_folder
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, style
from spectral_reach.studies.analysis.random_features import (
    TOLERANCE_OF_POSITION,
    TOLERANCE_OF_UNITY,
    RandomFeaturesResult,
    read_random_features,
)
from spectral_reach.studies.analysis.random_features_report import describe

NAME = "fig3"

# Inches.
COLUMN, PANEL_HEIGHT = 2.75, 1.95
LEFT, RIGHT, GAP, ROW_GAP = 0.62, 0.12, 0.72, 0.66
HEAD, AXIS_LABEL, BOTTOM = 0.50, 0.50, 0.12

_LIGHTEST, _DARKEST = 0.85, 0.05  # positions on plasma, as for what else is no model size
_MARKERS_A_DECADE = 8
_LEAST_ROOM = 0.05  # of the axis of chi_loss and chi_net, to each side of 1
_BAND: Mapping[str, Any] = {"color": FAINT, "alpha": 0.18, "linewidth": 0, "zorder": 0}
_PREDICTED: Mapping[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (4, 2)), "zorder": 1}
_MEASURED: Mapping[str, Any] = {"linestyle": "none", "markersize": 3.4, "elinewidth": 0.9, "capsize": 2.0, "zorder": 3}


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of a study folder as ``out/fig3.*``, with its data as ``out/fig3.csv``; returns the files.

    Raises:
        NothingToDrawError: no draw has been measured.
        ValueError: an unknown format, or more than one folder.
        ForeignFolderError: the folder is no study of random features, or cannot be read.
        RecordError: a result cannot be read, or ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    study = only_folder(studies, NAME)
    result = read_random_features(study)
    if not result.exponents:
        raise NothingToDrawError(f"no draw of {study} has been measured: got nothing to draw; run the study first.")
    points = [point for each in result.exponents for point in points_of(each)]
    with style():
        figure = _figure(result, points)
        files = save_figure(figure, out / NAME, formats)
    return (*files, save_rows([as_row(point) for point in points], COLUMNS, out / f"{NAME}.csv"))


def _figure(result: RandomFeaturesResult, points: Sequence[Point]) -> Figure:
    width = LEFT + 2 * COLUMN + GAP + RIGHT
    words = caption.wrap(f"{describe(result)} {_reading(result)}", width - LEFT - RIGHT)
    foot = AXIS_LABEL + caption.height(words) + BOTTOM
    height = HEAD + 2 * PANEL_HEIGHT + ROW_GAP + foot
    figure = Figure(figsize=(width, height))

    def panel(column: int, row: int) -> Axes:
        left = LEFT + column * (COLUMN + GAP)
        bottom = foot + (1 - row) * (PANEL_HEIGHT + ROW_GAP)
        return figure.add_axes((left / width, bottom / height, COLUMN / width, PANEL_HEIGHT / height))

    colours = _colours([each.exponent for each in result.exponents])
    _draw_covariance(panel(0, 0), points, colours)
    _draw_spectra(panel(1, 0), points, colours, features=result.settings["features"])
    _draw_unity(panel(0, 1), points)
    _draw_position(panel(1, 1), points)
    _exponents(figure, colours, x=LEFT / width, y=(height - 0.08) / height)
    caption.write(figure, words, left=LEFT, top=foot - AXIS_LABEL)
    return figure


def _reading(result: RandomFeaturesResult) -> str:
    return (
        f"Kernel spectra are those on {result.settings['spectrum_inputs']} inputs, means over draws; error bars one "
        f"standard error; grey bands {100 * TOLERANCE_OF_UNITY:g}% around 1 and {100 * TOLERANCE_OF_POSITION:g}% "
        "around Σp²."
    )


def _draw_covariance(axes: Axes, points: Sequence[Point], colours: Mapping[float, Any]) -> None:
    for exponent, colour in colours.items():
        axes.loglog(*_spectrum(points, "covariance", exponent), color=colour)
    axes.set_xlabel("mode k of the covariance")
    axes.set_ylabel("normalised eigenvalue $s_k/d$")


def _draw_spectra(axes: Axes, points: Sequence[Point], colours: Mapping[float, Any], *, features: int) -> None:
    """Lines fall from the upper left: the key has the lower left corner."""
    for exponent, colour in colours.items():
        axes.loglog(*_spectrum(points, "p_limit", exponent), color=colour, linewidth=1.0)
        k, p = _spectrum(points, "p_network", exponent)
        axes.plot(k, p, color=colour, markevery=_evenly_in_log(len(k)), **_CIRCLES)
    axes.set_xlabel("mode k of the kernel")
    axes.set_ylabel("normalised eigenvalue $p_k$")
    key = [
        Line2D([], [], color=FAINT, linewidth=1.0, label="arc-cosine kernel"),
        Line2D([], [], color=FAINT, label=f"eNTK, {features:,} features", **_CIRCLES),
    ]
    axes.legend(handles=key, loc="lower left", borderaxespad=0.2)


def _draw_unity(axes: Axes, points: Sequence[Point]) -> None:
    axes.axhspan(1 - TOLERANCE_OF_UNITY, 1 + TOLERANCE_OF_UNITY, **_BAND)
    axes.axhline(1, label="predicted", **_PREDICTED)
    reach = [_LEAST_ROOM]
    for quantity, marker, colour, aside in (("chi_loss", "s", FAINT, -0.03), ("chi_net", "o", INK, 0.03)):
        measured = [point for point in points if point.quantity == quantity]
        _error_bars(axes, measured, marker=marker, color=colour, label=quantity, aside=aside)
        reach += [abs(p.value - 1) + (0 if math.isnan(p.stderr) else p.stderr) for p in measured]
    # Room for the key above everything.
    axes.set_ylim(1 - 1.1 * max(reach), 1 + 1.6 * max(reach))
    _exponent_axis(axes, points)
    axes.set_ylabel("component at initialisation")
    axes.legend(loc="upper center", ncols=3, borderaxespad=0.2, columnspacing=1.4)


def _draw_position(axes: Axes, points: Sequence[Point]) -> None:
    """Position rises with the exponent: the key has the upper left corner."""
    measured = [point for point in points if point.quantity == "chi_pos"]
    exponents, predicted = [p.exponent for p in measured], np.array([p.predicted for p in measured])
    band = (predicted * (1 - TOLERANCE_OF_POSITION), predicted * (1 + TOLERANCE_OF_POSITION))
    axes.fill_between(exponents, *band, **_BAND)
    axes.plot(exponents, predicted, label=r"predicted, $\Sigma_k\, p_k^2$", **_PREDICTED)
    _error_bars(axes, measured, marker="o", color=INK, label="chi_pos")
    axes.set_ylim(0, 1.15 * max(p.value + (0 if math.isnan(p.stderr) else p.stderr) for p in measured))
    _exponent_axis(axes, points)
    axes.set_ylabel("spectral position at initialisation")
    axes.legend(loc="upper left", borderaxespad=0.2)


def _error_bars(
    axes: Axes, points: Sequence[Point], *, marker: str, color: str, label: str, aside: float = 0.0
) -> None:
    stderr = [0.0 if math.isnan(p.stderr) else p.stderr for p in points]
    x, y = [p.exponent + aside for p in points], [p.value for p in points]
    axes.errorbar(x, y, yerr=stderr, marker=marker, color=color, label=label, **_MEASURED)


def _exponent_axis(axes: Axes, points: Sequence[Point]) -> None:
    exponents = sorted({point.exponent for point in points})
    axes.set_xlim(exponents[0] - 0.15, exponents[-1] + 0.15)
    axes.set_xlabel("exponent β of the covariance")


def _spectrum(points: Sequence[Point], quantity: str, exponent: float) -> tuple[list[int], list[float]]:
    """k and the eigenvalues."""
    curve = {p.k: p.value for p in points if p.k is not None and p.quantity == quantity and p.exponent == exponent}
    return list(curve), list(curve.values())


def _evenly_in_log(n: int) -> list[int]:
    """Indices from 0 to n - 1, a few a decade: markers on every mode would run into one another."""
    count = math.ceil(_MARKERS_A_DECADE * math.log10(n)) + 1
    return sorted({round(k) - 1 for k in np.geomspace(1, n, count)})


def _colours(exponents: Sequence[float]) -> dict[float, Any]:
    ramp = matplotlib.colormaps["plasma"]
    low, span = exponents[0], exponents[-1] - exponents[0]
    shares = [(exponent - low) / span if span else 1.0 for exponent in exponents]
    return {
        exponent: ramp(_LIGHTEST + share * (_DARKEST - _LIGHTEST))
        for exponent, share in zip(exponents, shares, strict=True)
    }


def _exponents(figure: Figure, colours: Mapping[float, Any], *, x: float, y: float) -> None:
    """The exponents in their colours, above the panels, where they cover nothing."""
    figure.legend(
        handles=[Line2D([], [], color=colour, linewidth=2.2, label=f"{beta:g}") for beta, colour in colours.items()],
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=len(colours),
        title="exponent β of the covariance eigenvalues $k^{-β}$",
        title_fontsize=SMALL_SIZE,
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=1.2,
        columnspacing=1.0,
        handletextpad=0.4,
    )


_CIRCLES: Mapping[str, Any] = {
    "marker": "o",
    "markersize": 3.0,
    "markerfacecolor": "white",
    "markeredgewidth": 0.8,
    "linestyle": "none",
}
