"""Figure 10 of the paper: isocompute curves, a column a family: loss and position against model size at fixed FLOPs.

From the top: held-out loss, the population's spectral position and that of mini-batches, interpolated within runs at a
handful of budgets (``studies.analysis.isocompute``), one colour a budget, with one standard error. A star marks the
minimum of a curve with the 95% interval of its size, an open one the lowest size where the minimum lies at the edge or
beyond. The paper's panels are not at hand; these are the curves that the scaling studies give.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_reach.figures.curves import (
    any_below,
    ceiling_of,
    draw_band,
    draw_line,
    floor_of,
    key_band,
    key_below,
    key_line,
    note,
)
from spectral_reach.figures.fig10_data import EDGE, MINIMUM, family_points, has_a_curve
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.points import COLUMNS, Point, as_row, known, parameters_of
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import ComputeColours, SizeColours, log_axis, log_plain_axis, log_size_axis, style
from spectral_reach.figures.value_panel import limits
from spectral_reach.studies.analysis.isocompute import QUANTITIES, IsoCompute, isocompute
from spectral_reach.studies.analysis.numbers import power_of_ten, signed, with_interval
from spectral_reach.studies.analysis.rank import RankCorrelation
from spectral_reach.studies.analysis.study_data import FamilyData

NAME = "fig10"

_HEIGHT = 1.75
_NAMES = {
    "heldout_loss": "held-out loss (nats)",
    "chi_pos_unbiased": "chi_pos_unbiased",
    "chi_pos": "chi_pos of the mini-batch",
}
_STAR: Mapping[str, Any] = {"marker": "*", "markersize": 7.5, "markeredgewidth": 0.7, "linestyle": "none", "zorder": 4}
_FEW_SIZES = "fewer than three sizes share a compute"
_NO_CURVE = "no two sizes have it at one compute"


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of all families of these studies as ``out/fig10.*``, with its data as CSV; returns the files.

    A family without isocompute curves says so in its panels, and so does a panel where no two points are joined.

    Raises:
        ValueError: an unknown format, no run has begun, or two families have one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    families = read_families(studies)
    found = [isocompute(family.runs) for family in families]
    points = [family_points(family.key, each) for family, each in zip(families, found, strict=True)]
    with style():
        files = save_figure(_figure(families, found, points), out / NAME, formats)
    rows = [as_row(point) for column in points for point in column]
    return (*files, save_rows(rows, COLUMNS, out / f"{NAME}.csv"))


def _figure(families: Sequence[FamilyData], found: Sequence[IsoCompute], points: Sequence[Sequence[Point]]) -> Figure:
    budgets = [[curve.flops for curve in each.curves] for each in found]
    colours = ComputeColours([flops for each in budgets for flops in each] or [1.0])
    columns = [
        Column(
            title=family.label,
            entries=[(_in_words(flops), colours(flops)) for flops in of_family],
            of_entries="compute (FLOPs)",
            words=f"{family.label}. {describe(each)}",
        )
        for family, each, of_family in zip(families, found, budgets, strict=True)
    ]
    everything = [point for column in points for point in column]
    key = [
        key_band(known(everything, *QUANTITIES)),
        key_line("minimum, with the 95% interval of its size", **_STAR),
        key_line("lowest at the edge: minimum there or beyond", **_STAR, markerfacecolor="none"),
        *key_below(is_drawn=any(_has_values_below(column) for column in points)),
    ]
    page = Page(columns, (Row(height=_HEIGHT),) * len(_NAMES), key, SizeColours([1]))
    for i, (family, column) in enumerate(zip(families, points, strict=True)):
        panels = [page.panel(i, row) for row in range(len(_NAMES))]
        for axes, quantity in zip(panels, _NAMES, strict=True):
            sizes = [point.parameters for point in column] or [run.parameters for run in family.runs]
            log_size_axis(axes, sizes, labelled=axes is panels[-1])
            _draw(axes, column, quantity, colours)
            if i == 0:
                axes.set_ylabel(_NAMES[quantity])
        page.align(panels)
    return page.figure


def _draw(axes: Axes, points: Sequence[Point], quantity: str, colours: ComputeColours) -> None:
    values = known(points, quantity)
    if not has_a_curve(points, quantity):
        axes.set_yticks([])
        note(axes, _NO_CURVE if values else _FEW_SIZES)
        return
    floor = _floor(points, quantity)
    if quantity == "heldout_loss":
        log_plain_axis(axes, *limits(points, quantity, MINIMUM + quantity))
    else:
        log_axis(axes, floor, ceiling_of(values, floor))
    for flops in dict.fromkeys(point.flops for point in values):
        colour = colours(flops)
        curve = [point for point in values if point.flops == flops]
        draw_band(axes, curve, floor, colour, along=parameters_of)
        draw_line(axes, curve, floor, colour, {"marker": "o", "markersize": 2.2}, along=parameters_of)
        for point in known(points, MINIMUM + quantity, EDGE + quantity):
            if point.flops == flops:
                interior = point.quantity.startswith(MINIMUM)
                ends = (point.low, point.high)
                axes.plot(ends, [point.value] * 2, color=colour, linewidth=0.8, zorder=3, alpha=0.8)
                face = colour if interior else "white"
                axes.plot(point.parameters, point.value, color=colour, markerfacecolor=face, **_STAR)


def _floor(points: Sequence[Point], quantity: str) -> float:
    if quantity == "heldout_loss":
        return limits(points, quantity, MINIMUM + quantity)[0]
    return floor_of(known(points, quantity))


def _has_values_below(points: Sequence[Point]) -> bool:
    drawn = [quantity for quantity in _NAMES if has_a_curve(points, quantity)]
    return any(any_below(known(points, quantity), _floor(points, quantity)) for quantity in drawn)


def _in_words(flops: float) -> str:
    exponent = math.floor(math.log10(flops))
    return f"{flops / 10**exponent:.1f}×{power_of_ten(exponent)}"


def describe(found: IsoCompute) -> str:
    """Whether position follows loss at fixed compute, for both positions, and what takes no part."""
    if found.reason is not None:
        sentences = [f"There are no curves: {found.reason}."]
    elif not found.telling:  # the reason is the same for both positions
        sentences = [f"Whether position follows the loss is unknown: {found.follows_chi_pos.reason}."]
    else:
        units = "" if found.n_units is None else f" of {found.n_units} units"
        sentences = [
            f"Rank correlation of held-out loss with position over sizes at {found.telling} of {len(found.curves)} "
            "budgets, those with a minimum of the loss between the sizes, with the range within the errors and the "
            f"one-sided p-value: chi_pos_unbiased {_rank(found.follows_chi_pos_unbiased)}; chi_pos of "
            f"mini-batches{units} {_rank(found.follows_chi_pos)}."
        ]
    if found.left_out:
        sentences.append(f"Left out: {'; '.join(found.left_out)}.")
    return " ".join(sentences)


def _rank(rank: RankCorrelation) -> str:
    if rank.reason is not None:
        return f"unknown, {rank.reason}"
    p = min(rank.p_rising, rank.p_falling)
    chance = f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
    ends = with_interval(rank.rho, rank.low, rank.high) if rank.low < rank.high else signed(rank.rho)
    return f"{ends}, {chance}"
