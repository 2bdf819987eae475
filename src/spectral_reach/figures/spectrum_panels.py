"""One spectrum at a glance: its modes, the loss gradient and the loss reduction on them, and where the latter lies."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter
from numpy.typing import NDArray

from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, style
from spectral_reach.spectra.density import Density
from spectral_reach.spectra.quadrature import ReductionBounds
from spectral_reach.spectra.result import Spectrum

Floats = NDArray[np.float64]

MODES, GRADIENT, REDUCTION = "#3b528b", "#21918c", "#b5367a"
"""Colours of p_k, gamma_k^2 and their product, in every figure of spectra."""

DECADES = 12
"""Of normalised eigenvalues that a panel shows at most."""

_PANEL = 3.5, 2.8  # inches
_UNSEEN = 1e-3  # a share of the loss reduction that is too small to see
_LEAST_SPAN = 30.0  # of an axis, as a factor: a power of ten is in it
_GRID = 160


def plot_spectrum(spectrum: Spectrum) -> Figure:
    """Modes, the distribution of the loss reduction and, where it was asked for, the density of all eigenvalues."""
    density = spectrum.density
    with style():
        panels = 2 if density is None else 3
        figure = Figure(figsize=(panels * _PANEL[0], _PANEL[1]), layout="constrained")
        axes = figure.subplots(1, panels)
        draw_modes(axes[0], spectrum)
        draw_distribution(axes[1], spectrum)
        if density is not None:
            draw_density(axes[2], density)
        return figure


def draw_modes(axes: Axes, spectrum: Spectrum) -> None:
    """p_k, gamma_k^2 and gamma_k^2 p_k against k, smoothed where there are many modes; of a Gauss rule the last two as
    weights at its nodes. What is below rounding is left out."""
    shown = int((spectrum.p > max(spectrum.rounding, spectrum.p[0] * 10.0**-DECADES)).sum())
    if not shown:
        _say(axes, next(iter(spectrum.undefined.values()), "the loss gradient lies where the kernel is zero"))
        return
    p, gamma2 = spectrum.p[:shown], spectrum.gamma2[:shown]
    shares = ((gamma2, GRADIENT, r"$\gamma_k^2$"), (gamma2 * p, REDUCTION, r"$\gamma_k^2 p_k$"))
    if spectrum.method == "explicit":
        k = np.arange(1, shown + 1)
        axes.plot(k, p, color=MODES, label="$p_k$")
        for values, colour, label in shares:
            if np.isfinite(values).all():
                where, means = binned(k, values)
                seen = means > 0
                (line,) = axes.plot(where[seen], means[seen], color=colour, label=label, linewidth=0.9)
                line.set(marker="o", markersize=2.2)
        axes.set_xlabel("mode $k$")
    else:
        for values, colour, label in shares:
            seen = values > 0
            axes.plot(p[seen], values[seen], color=colour, label=label, marker="o", markersize=2.6, linestyle="none")
        axes.set_xlabel("normalised eigenvalue")
        axes.set_ylabel("weights of the Gauss rule")
        _at_least_a_decade(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        _powers(axis)
    _legend_above(axes)


def draw_distribution(axes: Axes, spectrum: Spectrum) -> None:
    """The cumulative loss reduction over normalised eigenvalues, what is certain of it, its median, and chi_pos."""
    if not spectrum.chi_pos > 0:
        _say(axes, "no loss reduction")
        return
    rule, krylov = spectrum.loss_reduction, spectrum.krylov
    kept = rule.nodes[::-1] > 0
    nodes, weights = rule.nodes[::-1][kept], rule.weights[::-1][kept]
    total = np.cumsum(weights)
    median, bounds = spectrum.position_quantile(0.5), spectrum.position_bounds(0.5)
    seen = nodes[total >= _UNSEEN][0]
    low, high = 0.6 * min(seen, median, spectrum.chi_pos), 1.6 * max(float(nodes[-1]), spectrum.chi_pos)
    low = max(min(low, high / _LEAST_SPAN), high * 10.0**-DECADES)
    if krylov is None or krylov.exhausted:
        x, y = np.concatenate([[low], nodes, [high]]), np.concatenate([[0.0], total, [total[-1]]])
        axes.step(x, y, where="post", color=REDUCTION, label="at and below")
    else:
        grid = np.geomspace(low, high, _GRID)
        proof = ReductionBounds(krylov)
        trace = spectrum.chi_net * spectrum.n_samples
        certain = [proof.cumulative(float(x) * trace) for x in grid]
        below, above = [each.low for each in certain], [each.high for each in certain]
        axes.fill_between(grid, below, above, color=REDUCTION, alpha=0.2, linewidth=0, label="certain")
        axes.plot(nodes, total - weights / 2, color=REDUCTION, label="estimate")
        if bounds.high > bounds.low > 0:
            axes.plot([bounds.low, min(bounds.high, high)], [0.5, 0.5], color=INK, linewidth=0.8)
    axes.plot([median], [0.5], marker="o", markersize=3.5, color=INK, linestyle="none", label="half of it")
    label = rf"$\chi_{{pos}} = {_number(spectrum.chi_pos)}$"
    axes.axvline(spectrum.chi_pos, color=FAINT, linewidth=0.8, linestyle=(0, (3, 2)), label=label)
    axes.set_xscale("log")
    _powers(axes.xaxis)
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("normalised eigenvalue")
    axes.set_ylabel("share of the loss reduction")
    _legend_above(axes)


def draw_density(axes: Axes, density: Density) -> None:
    """How many eigenvalues are larger than each, with a standard error over random vectors to either side."""
    p, above, errors = density.curve()
    seen = (p > (p[-1] if len(p) else 0.0) * 10.0**-DECADES) & (above > 0)
    p, above, errors = p[seen], above[seen], errors[seen]
    if not len(p):
        _say(axes, "no eigenvalues above zero")
        return
    axes.step(p, above, where="post", color=MODES, label=f"mean of {density.vectors} random vectors")
    if density.vectors > 1:
        least = float(above.min())
        low, high = np.maximum(above - errors, 0.3 * least), above + errors
        axes.fill_between(p, low, high, step="post", color=MODES, alpha=0.2, linewidth=0, label="± standard error")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _at_least_a_decade(axes)
    for axis in (axes.xaxis, axes.yaxis):
        _powers(axis)
    axes.set_xlabel("normalised eigenvalue")
    axes.set_ylabel("modes above")
    _legend_above(axes)


def binned(k: NDArray[np.int64], values: NDArray[np.float64], per_decade: int = 12) -> tuple[NDArray[np.float64], ...]:
    """Means over bins of equal width in log k, and the geometric middle of each; single modes stay as they are."""
    edges = np.unique(np.round(10 ** np.arange(0, np.log10(len(k)) + 1 / per_decade, 1 / per_decade)).astype(int))
    edges = np.append(edges[edges <= len(k)], len(k) + 1)
    starts, stops = edges[:-1] - 1, edges[1:] - 1
    middles = np.sqrt(k[starts] * k[stops - 1].astype(np.float64))
    means = np.array([values[a:b].mean() for a, b in zip(starts, stops, strict=True)])
    return middles, means


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color=FAINT, wrap=True)
    axes.set_xticks([])
    axes.set_yticks([])


def _powers(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(numticks=7))
    axis.set_major_formatter(LogFormatterMathtext())
    axis.set_minor_formatter(NullFormatter())


def _at_least_a_decade(axes: Axes) -> None:
    """Widen a narrow horizontal axis, so that a power of ten is in it."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < _LEAST_SPAN * low:
        middle = math.sqrt(low * high)
        axes.set_xlim(middle / math.sqrt(_LEAST_SPAN), middle * math.sqrt(_LEAST_SPAN))


def _legend_above(axes: Axes) -> None:
    """Over the panel, where no data are."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=4,
        borderaxespad=0.2,
        borderpad=0.2,
        fontsize=SMALL_SIZE - 0.6,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=0.9,
    )


def _number(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}"
