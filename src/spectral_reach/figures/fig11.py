"""Figure 11 of the paper: chi_net * chi_pos is governed by chi_pos; a column a family.

From the top: the product, chi_pos and chi_net against compute, a panel each, over their values at the early peak of
chi_pos: solid for the population's position, dotted for that of mini-batches. Below: the product's changes since that
peak against those of chi_pos; on the dotted diagonal chi_net stands still. The paper's panels are not at hand; these
show the statement from the scaling studies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_reach.figures.curves import (
    DOTTED,
    MARKED,
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
from spectral_reach.figures.family_figure import save_family_figure
from spectral_reach.figures.fig11_data import POSITIONS, QUANTITIES, changes, curves_of, family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.page import AXIS_GAP, Column, Page, Row
from spectral_reach.figures.points import Point, known, of_sizes
from spectral_reach.figures.style import FAINT, SMALL_SIZE, SizeColours, log_compute_axis, log_plain_axis
from spectral_reach.studies.analysis.claims.position_governs import judge
from spectral_reach.studies.analysis.numbers import signed, with_interval
from spectral_reach.studies.analysis.study_data import FamilyData

NAME = "fig11"

_HEIGHT = 1.45
_MARK: Mapping[str, Any] = {"marker": "o", "markersize": 3.0, "markeredgewidth": 0.8, "linestyle": "none"}
_EMPTY = "no early peak above 0"


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of all families of these studies as ``out/fig11.*``, with its data as CSV; returns the files.

    Raises:
        ValueError: an unknown format, no run has begun, or two families have one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    return save_family_figure(NAME, read_families(studies), family_points, _figure, out, formats)


def _figure(families: Sequence[FamilyData], points: Sequence[Sequence[Point]]) -> Figure:
    colours = SizeColours(run.parameters for family in families for run in family.runs)
    columns = [Column(title=family.label, runs=family.runs, words=_describe(family)) for family in families]
    everything = [point for column in points for point in column]
    key = [
        key_line("with chi_pos_unbiased", **MARKED),
        key_line("with chi_pos of the mini-batch", **DOTTED),
        key_band(known(everything, *(curves_of(quantity)[0] for quantity in QUANTITIES))),
        *key_below(is_drawn=any(_has_values_below(column, name) for column in points for name in QUANTITIES)),
        key_line("lowest panel: unbiased", **_MARK),
        key_line("lowest panel: mini-batch", **_MARK, markerfacecolor="none"),
    ]
    rows = (*(Row(height=_HEIGHT) for _ in QUANTITIES), Row(gap=AXIS_GAP))
    page = Page(columns, rows, key, colours)
    for i, column in enumerate(points):
        curves = [page.panel(i, row) for row in range(len(QUANTITIES))]
        for axes, quantity in zip(curves, QUANTITIES, strict=True):
            _draw_curves(axes, column, colours, quantity, labelled=axes is curves[-1])
            if i == 0:
                axes.set_ylabel(f"{quantity} / peak")
        scatter = page.panel(i, len(QUANTITIES))
        _draw_changes(scatter, column, colours)
        if i == 0:
            scatter.set_ylabel("chi_net·chi_pos over its peak")
        page.align(curves)
    return page.figure


def _draw_curves(axes: Axes, points: Sequence[Point], colours: SizeColours, quantity: str, *, labelled: bool) -> None:
    unbiased, mini_batch = curves_of(quantity)
    drawn = known(points, unbiased, mini_batch)
    log_compute_axis(axes, labelled=labelled)
    floor = floor_of(drawn)
    log_plain_axis(axes, floor, ceiling_of(drawn, floor))
    axes.axhline(1, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    for size, of_size in of_sizes(drawn):
        draw_band(axes, known(of_size, unbiased), floor, colours(size))
        draw_line(axes, known(of_size, unbiased), floor, colours(size))
        draw_line(axes, known(of_size, mini_batch), floor, colours(size), DOTTED)
    if not drawn:
        note(axes, _EMPTY)


def _has_values_below(points: Sequence[Point], quantity: str) -> bool:
    drawn = known(points, *curves_of(quantity))
    return any_below(drawn, floor_of(drawn))


def _draw_changes(axes: Axes, points: Sequence[Point], colours: SizeColours) -> None:
    """Only a chi_net that falls by orders would bring points to the lower right: the slopes stand there."""
    axes.set_xlabel("chi_pos over its peak")
    held, lines = [1.0], []
    for position in POSITIONS:
        found = changes(points, position)
        for change in found:
            colour = colours(change.parameters)
            face = colour if position == "chi_pos_unbiased" else "none"
            axes.plot(change.position, change.product, color=colour, markerfacecolor=face, **_MARK)
            held += [*change.position, *change.product]
        slopes = [change.slope for change in found if not math.isnan(change.slope)]
        if slopes:
            lines.append(f"{position}: slope {_span(slopes)}")
    ends = (0.6 * min(held), 1.7 * max(held))
    log_plain_axis(axes, *ends)
    log_plain_axis(axes, *ends, horizontal=True)
    axes.plot(ends, ends, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
    axes.text(0.97, 0.04, "\n".join(lines), transform=axes.transAxes, fontsize=SMALL_SIZE, va="bottom", ha="right")


def _span(slopes: Sequence[float]) -> str:
    low, high = signed(min(slopes)), signed(max(slopes))
    return low if low == high else f"{low} to {high} by size"


def _describe(family: FamilyData) -> str:
    """The share of chi_pos in the changes, of both positions, as the claims table has it."""
    if not any(run.is_finished for run in family.runs):
        return f"{family.label}. No run is finished: no share of chi_pos in the changes is given yet."
    clauses = []
    for position in POSITIONS:
        found = judge(family, position)
        share = found.interval
        known = "" if math.isnan(share.value) else f" {with_interval(share.value, share.low, share.high)}"
        clauses.append(f"{position}{known}: {found.reason}.")
    return (
        f"{family.label}. Share of chi_pos in the changes after warm-up, var(log chi_pos) / (var(log chi_pos) + "
        f"var(log chi_net)), mean over sizes with 95% interval. {' '.join(clauses)}"
    )
