"""Figure 10: isocompute curves, loss and position against model size at fixed FLOPs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.curves import ceiling_of, floor_of
from spectral_reach.figures.fig10 import describe
from spectral_reach.figures.fig10_data import EDGE, MINIMUM, family_points, has_a_curve
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.points import Point, known
from spectral_reach.figures.value_panel import limits
from spectral_reach.reports.amounts import compute
from spectral_reach.reports.chart import Axis, Chart, Item, Legend, Panel
from spectral_reach.reports.charts.size_curves import described
from spectral_reach.reports.charts.size_marks import size_axis
from spectral_reach.reports.charts.traces import band, hover, line, marks
from spectral_reach.reports.colours import Colour, ComputeRamp
from spectral_reach.studies.analysis.isocompute import isocompute
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.study_data import FamilyData

_NAMES = {
    "heldout_loss": "held-out loss (nats)",
    "chi_pos_unbiased": "chi_pos_unbiased",
    "chi_pos": "chi_pos of the mini-batch",
}


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of all families of these studies; None where no compute is shared by enough sizes.

    Raises as ``read_families``.
    """
    found = [(family, isocompute(family.runs)) for family in read_families(folders)]
    columns = [(family, family_points(family.key, each)) for family, each in found if each.curves]
    if not columns:
        return None
    budgets = sorted({point.flops for _, points in columns for point in points})
    ramp = ComputeRamp(budgets)
    colours = {budget: ramp(budget) for budget in budgets}
    items = tuple(Item(key=str(budget), label=compute(budget), colour=colour) for budget, colour in colours.items())
    return Chart(
        key="fig10",
        title="Loss and position at fixed compute (Figure 10)",
        shows=(
            "Held-out loss and spectral position against model size at fixed compute, interpolated within runs, one "
            "colour a budget, with one standard error. A star marks the minimum of a curve with the 95% interval of "
            "its size, an open one the lowest size where the minimum lies at the edge or beyond."
        ),
        columns=3 if len(columns) == 1 else 2,
        legends=(Legend(name="budget", title="compute", items=items),),
        panels=tuple(
            _panel(family, points, quantity, colours)
            for quantity in _NAMES
            for family, points in columns
            if has_a_curve(points, quantity)
        ),
        words=tuple(f"{family.label}. {describe(each)}" for family, each in found),
    )


def _panel(family: FamilyData, points: Sequence[Point], quantity: str, colours: Mapping[float, Colour]) -> Panel:
    values = known(points, quantity)
    is_loss = quantity == "heldout_loss"
    if is_loss:
        span = limits(points, quantity, MINIMUM + quantity)
    else:
        floor = floor_of(values)
        span = floor, ceiling_of(values, floor)
    traces: list[dict[str, Any]] = []
    for budget, colour in colours.items():
        curve = [point for point in values if point.flops == budget]
        traces += _curve(curve, _NAMES[quantity], colour, span[0], {"budget": str(budget)})
        stars = [p for p in known(points, MINIMUM + quantity, EDGE + quantity) if p.flops == budget]
        traces += [_star(point, colour) for point in stars]
    return Panel(
        title=f"{family.label}: {_NAMES[quantity]}",
        x=size_axis(run.parameters for run in family.runs),
        y=Axis(title=_NAMES[quantity], span=span, powers=not is_loss),
        traces=tuple(traces),
    )


def _curve(
    curve: Sequence[Point], label: str, colour: Colour, floor: float, meta: Mapping[str, str]
) -> list[dict[str, Any]]:
    if not curve:
        return []
    x = [float(p.parameters) for p in curve]
    low, high = [p.value - p.stderr for p in curve], [p.value + p.stderr for p in curve]
    texts = [described(p, label) for p in curve]
    values = [p.value if p.value > floor else math.nan for p in curve]
    below = [i for i, p in enumerate(curve) if p.value <= floor]
    return [
        *band(x, low, high, colour=colour, meta=meta, floor=floor),
        line(x, values, texts, colour=colour, meta=meta),
        marks(
            [x[i] for i in below],
            [floor * 1.04] * len(below),
            [texts[i] for i in below],
            colour=colour,
            meta=meta,
            symbol="triangle-down-open",
        ),
    ]


def _star(point: Point, colour: Colour) -> dict[str, Any]:
    is_inside = point.quantity.startswith(MINIMUM)
    what = "minimum" if is_inside else "lowest, at the edge"
    known_ends = not math.isnan(point.low) and not math.isnan(point.high)
    ends = f"95%: {size(round(point.low))} to {size(round(point.high))}" if known_ends else ""
    text = hover(f"{point.family}, {compute(point.flops)}", f"{what} at {size(point.parameters)} parameters", ends)
    trace = marks(
        [float(point.parameters)],
        [point.value],
        [text],
        colour=colour,
        meta={"budget": str(point.flops)},
        symbol="star" if is_inside else "star-open",
        size=12,
    )
    if known_ends:
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": [point.high - point.parameters],
            "arrayminus": [point.parameters - point.low],
            "color": colour.token,
            "thickness": 1.2,
            "width": 0,
        }
    return trace
