"""What holds at every width: sizes of activations and best learning rates, standard parametrisation against muP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.coordinate_check_data import Point, points_of
from spectral_reach.reports.chart import Axis, Chart, Item, Legend, Panel
from spectral_reach.reports.charts.traces import hover, level_line, line, marks
from spectral_reach.reports.colours import BLUE, GREEN, INK, ORANGE, PINK, Colour, SizeRamp
from spectral_reach.studies.analysis.coordinate_check import SideResult, read_coordinate_check
from spectral_reach.studies.analysis.coordinate_check_report import KIND_NAMES, describe_rates, describe_sizes, label

# As in the static figure.
_LOOKS: Mapping[str, tuple[Colour, str]] = {
    "queries": (BLUE, "triangle-up"),
    "attention": (ORANGE, "square"),
    "mlp": (GREEN, "diamond"),
    "stream": (PINK, "triangle-down"),
    "change of logits": (INK, "circle"),
}


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the one study; None where no size is taken at two widths. Raises as ``read_coordinate_check``."""
    result = read_coordinate_check(folders[0])
    if not any(side.sizes for side in result.sides):
        return None
    sides = [(side, points_of(side)) for side in result.sides]
    points = [point for _, of_side in sides for point in of_side]
    swept = sorted({point.width for point in points if point.quantity == "loss"})
    ramp = SizeRamp(swept)
    kinds = {point.kind for point in points if point.quantity == "size"}
    return Chart(
        key="coordinate-check",
        title="Activations and learning rates against width: standard parametrisation and muP",
        shows=(
            "Root mean squares of activations after some steps, and of the change of the logits, relative to the "
            "narrowest model: flat where they do not depend on the width. Then loss against learning rate, a line for "
            "each width, with a star at the best rate. Bars are one standard error over seeds."
        ),
        legends=(
            Legend(
                name="kind",
                title="size of",
                items=tuple(
                    Item(key=kind, label=KIND_NAMES.get(kind, kind), colour=colour, look="dot")
                    for kind, (colour, _) in _LOOKS.items()
                    if kind in kinds
                ),
            ),
            Legend(
                name="width",
                title="width",
                items=tuple(Item(key=str(width), label=str(width), colour=ramp(width)) for width in swept),
            ),
        ),
        columns=min(4, len(sides)),
        panels=(*(_sizes(*each) for each in sides), *(_losses(*each, ramp) for each in sides)),
        words=(describe_sizes(result), describe_rates(result)),
    )


def _sizes(side: SideResult, points: Sequence[Point]) -> Panel:
    traces: list[dict[str, Any]] = []
    for kind, (colour, symbol) in _LOOKS.items():
        curve = [point for point in points if point.quantity == "size" and point.kind == kind]
        if not curve:
            continue
        x, y = [float(p.width) for p in curve], [p.relative for p in curve]
        texts = [
            hover(f"{label(side)}, width {p.width}", f"{kind}: {p.relative:.3g} of the narrowest, {p.value:.3g} itself")
            for p in curve
        ]
        meta = {"kind": kind}
        traces += [
            line(x, y, texts, colour=colour, meta=meta, markers=False),
            marks(x, y, texts, colour=colour, meta=meta, symbol=symbol, bars=_bars(curve, y)),
        ]
    widths = sorted({point.width for point in points if point.quantity == "size"})
    return Panel(
        title=f"{label(side)}: sizes",
        x=Axis(title="width", ticks={float(width): str(width) for width in widths}),
        y=Axis(title="relative size", powers=False),
        traces=tuple(traces),
        shapes=(level_line(1.0),),
    )


def _losses(side: SideResult, points: Sequence[Point], ramp: SizeRamp) -> Panel:
    traces: list[dict[str, Any]] = []
    losses = [point for point in points if point.quantity in ("loss", "best") and point.rate is not None]
    for width in sorted({point.width for point in losses}):
        for quantity in ("loss", "best"):
            curve = [point for point in losses if (point.width, point.quantity) == (width, quantity)]
            x, y = [p.rate or math.nan for p in curve], [p.value for p in curve]
            texts = [
                hover(f"{label(side)}, width {width}", f"{_NAMES[quantity]} {p.rate:.3g}: loss {p.value:.4g}")
                for p in curve
            ]
            meta, colour = {"width": str(width)}, ramp(width)
            if quantity == "best":
                traces.append(marks(x, y, texts, colour=colour, meta=meta, symbol="star", size=12))
            else:
                traces.append(line(x, y, texts, colour=colour, meta=meta))
    return Panel(
        title=f"{label(side)}: rates",
        x=Axis(title="learning rate", ticks=_ticks([p.rate for p in losses if p.rate and p.quantity == "loss"])),
        y=Axis(title="loss at the end (nats)", log=False),
        traces=tuple(traces),
    )


_MOST_TICKS = 4
_NAMES = {"loss": "rate", "best": "best rate, about"}


def _ticks(rates: Sequence[float]) -> dict[float, str]:
    """Some of the rates that were tried, the lowest among them."""
    tried = sorted(set(rates))
    return {rate: f"{rate:.2g}" for rate in tried[:: max(1, math.ceil(len(tried) / _MOST_TICKS))]}


def _bars(curve: Sequence[Point], y: Sequence[float]) -> list[tuple[float, float]]:
    return [(v, v) if math.isnan(p.low) else (p.low, p.high) for p, v in zip(curve, y, strict=True)]
