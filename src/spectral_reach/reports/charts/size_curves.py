"""Curves over training, a size a colour, as every figure of model sizes draws them: lines, bands, marks off the axis.

They are drawn from the rows of the figures' CSV, with the same axis ends, so that page and figure show the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from spectral_reach.figures.curves import ceiling_of, floor_of
from spectral_reach.figures.points import Point, known, of_sizes
from spectral_reach.reports.amounts import compute, counted
from spectral_reach.reports.chart import Axis, Item, Legend, Panel
from spectral_reach.reports.charts.traces import band, hover, line, marks, quantity_text, steps_text
from spectral_reach.reports.colours import FAINT, SizeRamp
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.study_data import RunData

COMPUTE = Axis(title="compute (FLOPs)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """How a quantity is drawn.

    Attributes:
        quantity: of the points.
        label: in the legend and when the pointer rests on it.
        key: of the legend's item; curves of one key are switched together; empty for one that the legend leaves alone.
        dash: plotly's name of the line's pattern.
        has_band: whether one standard error is shown to both sides.
        breaks: whether the line breaks where the number of units changes, as that of a mini-batch's value has to.
    """

    quantity: str
    label: str
    key: str
    dash: str = "solid"
    has_band: bool = True
    breaks: bool = False


def noisy_pair(quantity: str) -> tuple[Curve, Curve]:
    """A quantity of the population, and of the mini-batch, where gradient noise raises it.

    Both are switched by the position's names, also where the quantity is another one with the same noise.
    """
    unbiased = Curve(quantity=f"{quantity}_unbiased", label=f"{quantity}_unbiased", key="chi_pos_unbiased")
    mini_batch = Curve(
        quantity=quantity,
        label=f"{quantity} of the mini-batch",
        key="chi_pos",
        dash="dot",
        has_band=False,
        breaks=True,
    )
    return unbiased, mini_batch


UNBIASED, MINI_BATCH = noisy_pair("chi_pos")


def size_legend(runs: Sequence[RunData], ramp: SizeRamp) -> Legend:
    """Buttons of the runs' sizes; one with unfinished runs says so."""
    unfinished = Counter(run.parameters for run in runs if not run.is_finished)
    items = (
        Item(key=str(p), label=size(p) + (f" ({unfinished[p]} unfinished)" if unfinished[p] else ""), colour=ramp(p))
        for p in sorted({run.parameters for run in runs})
    )
    return Legend(name="size", title="parameters", items=tuple(items))


def curve_legend(*curves: Curve, title: str = "position") -> Legend:
    """Buttons of the quantities."""
    looks = {"solid": "line", "dot": "dotted", "dash": "dashed"}
    by_key = {curve.key: curve for curve in reversed(curves)}
    items = [
        Item(key=key, label=curve.label, colour=FAINT, look=looks[curve.dash])
        for key, curve in sorted(by_key.items(), key=lambda each: [c.key for c in curves].index(each[0]))
    ]
    return Legend(name="quantity", title=title, items=tuple(items))


def curve_panel(
    title: str,
    points: Sequence[Point],
    curves: Sequence[Curve],
    ramp: SizeRamp,
    *,
    y: str,
    powers: bool = True,
    span: tuple[float, float] | None = None,
    x: Axis = COMPUTE,
    against: str = "flops",
    extra: Iterable[Mapping[str, Any]] = (),
    **parts: Any,
) -> Panel:
    """A panel of ``curves`` on logarithmic axes; ``against`` names the attribute of the points that is drawn along.

    ``span`` gives the vertical axis' ends, otherwise those of the static figures. ``extra`` traces come last.
    """
    values = known(points, *(curve.quantity for curve in curves))
    if span is None:
        floor = floor_of(values)
        span = floor, ceiling_of(values, floor)
    traces = [trace for curve in curves for trace in _traces(values, curve, ramp, span[0], against)]
    return Panel(title=title, x=x, y=Axis(title=y, span=span, powers=powers), traces=(*traces, *extra), **parts)


def loss_span(values: Iterable[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis around all of these."""
    logs = [math.log(value) for value in values if value > 0]
    room = 0.06 * (max(logs) - min(logs)) + 0.01
    return math.exp(min(logs) - room), math.exp(max(logs) + room)


def described(point: Point, label: str) -> str:
    """What is shown when the pointer rests on a point."""
    spent = f"{compute(point.flops)}, {point.tokens:,.0f} tokens" if not math.isnan(point.tokens) else ""
    seeds = f"mean of {counted(point.runs, 'seed')}" if point.runs is not None and point.runs > 1 else ""
    behind = "" if point.n_units is None else f"{counted(point.n or 0, 'measurement')} of {point.n_units} units"
    return hover(
        f"{point.family}, {size(point.parameters)} parameters",
        ", ".join(part for part in (steps_text(point.first_step, point.last_step), seeds) if part),
        spent or ("" if math.isnan(point.flops) else compute(point.flops)),
        quantity_text(label, point.value, point.stderr),
        behind,
    )


def _traces(
    points: Sequence[Point], curve: Curve, ramp: SizeRamp, floor: float, against: str
) -> Iterable[Mapping[str, Any]]:
    for parameters, of_size in of_sizes([point for point in points if point.quantity == curve.quantity]):
        colour = ramp(parameters)
        meta = {"size": str(parameters)} | ({"quantity": curve.key} if curve.key else {})
        stretches = [list(part) for _, part in groupby(of_size, key=lambda p: p.n_units)] if curve.breaks else [of_size]
        for part in stretches:
            x = [getattr(p, against) for p in part]
            if curve.has_band:
                low, high = [p.value - p.stderr for p in part], [p.value + p.stderr for p in part]
                yield from band(x, low, high, colour=colour, meta=meta, floor=floor)
            yield line(
                x,
                [p.value if p.value > floor else math.nan for p in part],
                [described(p, curve.label) for p in part],
                colour=colour,
                meta=meta,
                dash=curve.dash,
                width=1.8 if curve.has_band else 1.4,
                markers=curve.has_band or len(part) == 1,
            )
            if below := [p for p in part if p.value <= floor]:
                yield marks(
                    [getattr(p, against) for p in below],
                    [floor * 1.04] * len(below),
                    [described(p, curve.label) for p in below],
                    colour=colour,
                    meta=meta,
                    symbol="triangle-down-open",
                )
