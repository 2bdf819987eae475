"""Figure 11: chi_net * chi_pos is governed by chi_pos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectral_reach.figures.fig11_data import POSITIONS, QUANTITIES, changes, curves_of, family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.points import Point, known
from spectral_reach.reports.chart import Axis, Chart, Panel
from spectral_reach.reports.charts.size_curves import MINI_BATCH, UNBIASED, curve_legend, curve_panel, size_legend
from spectral_reach.reports.charts.traces import hover, level_line, line, marks
from spectral_reach.reports.colours import FAINT, SizeRamp
from spectral_reach.studies.analysis.numbers import signed, size
from spectral_reach.studies.analysis.study_data import FamilyData


def chart(folders: Sequence[Path]) -> Chart:
    """The chart of all families of these studies. Raises as ``read_families``."""
    columns = [(family, family_points(family)) for family in read_families(folders)]
    runs = [run for family, _ in columns for run in family.runs]
    ramp = SizeRamp(run.parameters for run in runs)
    panels = [
        *(
            _curves(family, points, quantity, ramp)
            for quantity in QUANTITIES
            for family, points in columns
            if known(points, *curves_of(quantity))
        ),
        *(_changes(family, points, ramp) for family, points in columns if points),
    ]
    return Chart(
        key="fig11",
        title="chi_net·chi_pos is governed by chi_pos (Figure 11)",
        shows=(
            "The product, chi_pos and chi_net against compute, each over its value at the early peak of chi_pos, "
            "solid with chi_pos_unbiased and dotted with chi_pos of the mini-batch; and the product's changes since "
            "that peak against those of chi_pos, as dots and as rings: on the dotted diagonal chi_net stands still."
        ),
        legends=(size_legend(runs, ramp), curve_legend(UNBIASED, MINI_BATCH)),
        panels=tuple(panels),
        words=tuple(_slopes(family, points) for family, points in columns),
    )


def _curves(family: FamilyData, points: Sequence[Point], quantity: str, ramp: SizeRamp) -> Panel:
    curves = [
        replace(curve, quantity=name, label=f"{quantity}, {curve.label}")
        for name, curve in zip(curves_of(quantity), (UNBIASED, MINI_BATCH), strict=True)
    ]
    return curve_panel(
        f"{family.label}: {quantity}", points, curves, ramp, y=f"{quantity} / peak", shapes=(level_line(1.0),)
    )


def _changes(family: FamilyData, points: Sequence[Point], ramp: SizeRamp) -> Panel:
    traces: list[dict[str, Any]] = []
    for position in POSITIONS:
        for change in changes(points, position):
            texts = [
                hover(
                    f"{family.key}, {size(change.parameters)} parameters",
                    f"{position} over its peak: {x:.3g}",
                    f"chi_net·chi_pos over its peak: {y:.3g}",
                )
                for x, y in zip(change.position, change.product, strict=True)
            ]
            symbol = "circle" if position == "chi_pos_unbiased" else "circle-open"
            meta = {"size": str(change.parameters), "quantity": position}
            colour = ramp(change.parameters)
            traces.append(marks(change.position, change.product, texts, colour=colour, meta=meta, symbol=symbol))
    held = [value for trace in traces for value in (*trace["x"], *trace["y"])]
    if held:
        ends = (0.6 * min(held), 1.7 * max(held))
        traces.append(line(ends, ends, ["chi_net stands still"] * 2, colour=FAINT, meta={}, dash="dot", markers=False))
    return Panel(
        title=f"{family.label}: changes",
        x=Axis(title="chi_pos over its peak"),
        y=Axis(title="chi_net·chi_pos over its peak"),
        traces=tuple(traces),
    )


def _slopes(family: FamilyData, points: Sequence[Point]) -> str:
    parts = []
    for position in POSITIONS:
        slopes = [change.slope for change in changes(points, position) if not math.isnan(change.slope)]
        if slopes:
            parts.append(f"for {position} {signed(min(slopes))} to {signed(max(slopes))}")
    if not parts:
        return f"{family.label}. No size has an early peak above 0 with windows after it."
    statistic = "Slope of log(chi_net·chi_pos) against log(chi_pos) after the peak, by size"
    return f"{family.label}. {statistic}: {'; '.join(parts)}."
