"""Figure 1: train loss with its frontier, and spectral position, against compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.fig1_data import family_points
from spectral_reach.figures.folders import Begun, summarised_families
from spectral_reach.figures.points import Point
from spectral_reach.reports.chart import Chart, Panel
from spectral_reach.reports.charts.size_curves import (
    MINI_BATCH,
    UNBIASED,
    Curve,
    curve_legend,
    curve_panel,
    loss_span,
    size_legend,
)
from spectral_reach.reports.charts.traces import hover, level_line, level_name, line
from spectral_reach.reports.colours import INK, SizeRamp
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.words import describe_family

LOSS = Curve(quantity="train_loss", label="train loss", key="")


def chart(folders: Sequence[Path]) -> Chart:
    """The chart of all families of these studies. Raises as ``summarised_families``."""
    begun = summarised_families(folders)
    points = [family_points(family.data, family.summary.frontier) for family in begun]
    runs = [run for family in begun for run in family.data.runs]
    ramp = SizeRamp(run.parameters for run in runs)
    columns = list(zip(begun, points, strict=True))
    panels = [
        *(_losses(family, column, ramp) for family, column in columns),
        *(_positions(family, column, ramp) for family, column in columns),
    ]
    return Chart(
        key="fig1",
        title="Loss and spectral position against compute (Figure 1)",
        shows=(
            "Train loss of every size with the power law of its frontier by least squares (dashed; robust fits stand "
            "under Fits), and spectral position. Solid: chi_pos_unbiased, the population's position; dotted: chi_pos "
            "of the mini-batch, raised by gradient noise. Bands are one standard error, over seeds where a size has "
            "several; triangles stand for values at or below the axis."
        ),
        legends=(size_legend(runs, ramp), curve_legend(UNBIASED, MINI_BATCH)),
        panels=tuple(panels),
        words=tuple(describe_family(family.summary) for family in begun),
    )


def _losses(family: Begun, points: Sequence[Point], ramp: SizeRamp) -> Panel:
    entropy = family.data.runs[0].unigram_entropy
    losses = [point.value for point in points if point.quantity == "train_loss" and not math.isnan(point.value)]
    return curve_panel(
        f"{family.data.label}: loss",
        points,
        (LOSS,),
        ramp,
        y="train loss (nats)",
        powers=False,
        span=loss_span([*losses, entropy]),
        extra=_frontier(family, points),
        shapes=(level_line(entropy),),
        notes=(level_name(entropy, "unigram entropy"),),
    )


def _frontier(family: Begun, points: Sequence[Point]) -> list[Mapping[str, Any]]:
    fit = [point for point in points if point.quantity == "frontier_fit"]
    if not fit:
        return []
    frontier = family.summary.frontier
    texts = [
        hover(
            f"{family.data.key}: frontier ∝ C^−{frontier.exponent:.3f}",
            f"{point.value:.3f} nats here, where {size(point.parameters)} parameters are best",
        )
        for point in fit
    ]
    x, y = [point.flops for point in fit], [point.value for point in fit]
    return [line(x, y, texts, colour=INK, meta={}, dash="dash", width=1.4, markers=False)]


def _positions(family: Begun, points: Sequence[Point], ramp: SizeRamp) -> Panel:
    return curve_panel(f"{family.data.label}: position", points, (MINI_BATCH, UNBIASED), ramp, y="spectral position")
