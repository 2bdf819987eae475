"""A panel of training loss against compute: every run, and the power law of the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from spectral_reach.figures.curves import draw_band
from spectral_reach.figures.points import Point, of_sizes
from spectral_reach.figures.style import FAINT, INK, SMALL_SIZE, SizeColours, log_compute_axis, log_loss_axis
from spectral_reach.studies.analysis.frontier import Frontier
from spectral_reach.studies.analysis.numbers import interval

MARGIN = 0.06  # of the range of log loss, above and below
LEAST_MARGIN = 0.01


def draw_losses(
    axes: Axes, points: Sequence[Point], colours: SizeColours, frontier: Frontier, *, entropy: float
) -> None:
    """Draw the ``train_loss`` and ``frontier_fit`` points; ``entropy`` is marked as the loss of mere frequencies."""
    log_compute_axis(axes, labelled=False)
    losses = [point for point in points if point.quantity == "train_loss"]
    for size, curve in of_sizes(losses):
        if any(point.runs != 1 for point in curve):
            draw_band(axes, [p for p in curve if not math.isnan(p.value)], 0.0, colours(size))
        axes.plot([p.flops for p in curve], [p.value for p in curve], color=colours(size))
    drawn = [math.log(point.value) for point in losses if not math.isnan(point.value)]
    low, high = min(drawn, default=math.log(entropy)), max([*drawn, math.log(entropy)])
    room = max(MARGIN * (high - low), LEAST_MARGIN)
    log_loss_axis(axes, math.exp(low - 2 * room), math.exp(high + room))
    axes.axhline(entropy, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    axes.annotate(
        "unigram entropy",
        (0, entropy),
        xycoords=("axes fraction", "data"),
        xytext=(3, -2),  # below the line at the left: the curves begin above it
        textcoords="offset points",
        va="top",
        fontsize=SMALL_SIZE,
        color=FAINT,
    )
    _draw_frontier(axes, [point for point in points if point.quantity == "frontier_fit"], frontier)


def _draw_frontier(axes: Axes, fit: Sequence[Point], frontier: Frontier) -> None:
    """The lower left corner is free: no loss lies below the frontier."""
    text = "no frontier fitted (see below)"
    if fit:
        axes.plot(
            [p.flops for p in fit], [p.value for p in fit], color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=3
        )
        covers = "over runs" if frontier.covers_seeds else "over batch noise"
        text = f"frontier ∝ $C^{{-{frontier.exponent:.3f}}}$\n95% {covers}: {interval(frontier.low, frontier.high)}"
        text = text.replace("{--", "{")
        if not math.isnan(frontier.without_each_size[0]):
            text += f"\nleaving a size out: {interval(*frontier.without_each_size)}"
    axes.text(0.03, 0.04, text, transform=axes.transAxes, fontsize=SMALL_SIZE, va="bottom")
