"""One spectrum at a glance: its modes, the loss gradient and the loss reduction on them, and where the latter lies."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter
from numpy.typing import NDArray

from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, style
from spectral_reach.spectra.result import Spectrum

MODES, GRADIENT, REDUCTION = "#3b528b", "#21918c", "#b5367a"
"""Colours of p_k, gamma_k^2 and their product, in every figure of spectra."""

DECADES = 12
"""Of normalised eigenvalues that a panel shows at most."""


def plot_spectrum(spectrum: Spectrum) -> Figure:
    """Left: p_k, gamma_k^2 and gamma_k^2 p_k of every mode, or of every node of a Gauss rule. Right: the share of the
    loss reduction at and below each normalised eigenvalue, with what is certain of it."""
    with style():
        figure = Figure(figsize=(7.0, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_modes(left, spectrum)
        draw_distribution(right, spectrum)
        return figure


def draw_modes(axes: Axes, spectrum: Spectrum) -> None:
    """p_k as a line, shares as points: smoothed where there are many modes."""
    k = np.arange(1, len(spectrum.p) + 1)
    shown = spectrum.p > max(spectrum.rounding, spectrum.p[0] * 10.0**-DECADES)
    if spectrum.method == "explicit":
        axes.plot(k[shown], spectrum.p[shown], color=MODES, label="$p_k$")
        for values, colour, label in _shares(spectrum):
            where, means = binned(k, values)
            axes.plot(where, means, color=colour, label=label, marker="o", markersize=2.2, linewidth=0.9)
        axes.set_xscale("log")
        axes.set_xlabel("mode $k$")
    else:
        nodes = spectrum.p[shown]
        for values, colour, label in _shares(spectrum):
            axes.plot(nodes, values[shown], color=colour, label=label, marker="o", markersize=2.5, linewidth=0.6)
        axes.set_xscale("log")
        axes.set_xlabel("normalised eigenvalue (nodes)")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_major_formatter(LogFormatterMathtext())
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)


def draw_distribution(axes: Axes, spectrum: Spectrum) -> None:
    """The cumulative loss reduction over normalised eigenvalues; its median is marked."""
    if not spectrum.chi_pos > 0:
        axes.text(0.5, 0.5, "no loss reduction", ha="center", va="center", transform=axes.transAxes, color=FAINT)
        return
    rule = spectrum.loss_reduction
    nodes, total = rule.nodes[::-1], np.cumsum(rule.weights[::-1])
    kept = nodes > 0
    axes.step(nodes[kept], total[kept], where="post", color=REDUCTION)
    median, bounds = spectrum.position_quantile(0.5), spectrum.position_bounds(0.5)
    axes.plot([median], [0.5], marker="o", markersize=4, color=INK, linestyle="none")
    if bounds.high > bounds.low > 0:
        axes.plot([bounds.low, min(bounds.high, nodes[-1])], [0.5, 0.5], color=INK, linewidth=0.8)
    axes.axvline(spectrum.chi_pos, color=FAINT, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.annotate(
        rf"$\chi_{{pos}}$ = {spectrum.chi_pos:.1e}",
        (spectrum.chi_pos, 1.02),
        xycoords=("data", "axes fraction"),
        ha="center",
        fontsize=SMALL_SIZE,
        color=FAINT,
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_major_formatter(LogFormatterMathtext())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("normalised eigenvalue")
    axes.set_ylabel("loss reduction at and below")


def binned(k: NDArray[np.int64], values: NDArray[np.float64], per_decade: int = 12) -> tuple[NDArray[np.float64], ...]:
    """Means over bins of equal width in log k, and the geometric middle of each; single modes stay as they are."""
    edges = np.unique(np.round(10 ** np.arange(0, np.log10(len(k)) + 1 / per_decade, 1 / per_decade)).astype(int))
    edges = np.append(edges[edges <= len(k)], len(k) + 1)
    starts, stops = edges[:-1] - 1, edges[1:] - 1
    middles = np.sqrt(k[starts] * k[stops - 1].astype(np.float64))
    means = np.array([values[a:b].mean() for a, b in zip(starts, stops, strict=True)])
    return middles, means


def _shares(spectrum: Spectrum) -> list[tuple[NDArray[np.float64], str, str]]:
    return [
        (spectrum.gamma2, GRADIENT, r"$\gamma_k^2$"),
        (spectrum.gamma2 * spectrum.p, REDUCTION, r"$\gamma_k^2 p_k$"),
    ]
