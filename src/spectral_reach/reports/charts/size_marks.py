"""Late averages, or ratios of them, against model size: a mark a size with its 95% interval, joined by a thin line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectral_reach.figures.points import Point, known
from spectral_reach.reports.amounts import counted
from spectral_reach.reports.chart import Axis, Item, Legend, Panel
from spectral_reach.reports.charts.traces import hover, level_line, line, marks, quantity_text
from spectral_reach.reports.colours import FAINT, SizeRamp
from spectral_reach.studies.analysis.numbers import interval, size

_ROOM = 1.25
_ASIDE = 1.03  # a factor of size between series that would lie on each other
_MOST_DECADES = 2.6  # for labels at 2 and 5 times a power of ten
_TINY = 1e-3
_PLAIN = 100.0  # a span below this factor is labelled in plain numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """How one quantity is drawn.

    Attributes:
        quantity: of the points.
        label: in the legend and when the pointer rests on it.
        keys: of the legends' items that it belongs to, by the name of the legend.
        symbol: plotly's name of the mark.
        aside: places to the right, of ``_ASIDE`` each.
    """

    quantity: str
    label: str
    keys: Mapping[str, str]
    symbol: str = "circle"
    aside: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the mark is a ring, and its line dotted."""
        return self.symbol.endswith("-open")


UNBIASED_MARK = Series(
    quantity="chi_pos_unbiased", label="chi_pos_unbiased", keys={"quantity": "chi_pos_unbiased"}, aside=-0.5
)
MINI_BATCH_MARK = Series(
    quantity="chi_pos",
    label="chi_pos of the mini-batch",
    keys={"quantity": "chi_pos"},
    symbol="circle-open",
    aside=0.5,
)


def series_legend(name: str, title: str, series: Iterable[Series]) -> Legend:
    """Buttons of the series, in the legend called ``name``."""
    items = (
        Item(key=each.keys[name], label=each.label, colour=FAINT, look="ring" if each.is_open else "dot")
        for each in series
    )
    return Legend(name=name, title=title, items=tuple(items))


def size_axis(parameters: Iterable[int]) -> Axis:
    """A logarithmic axis of parameters with room at both ends, labelled 10k, 100k, 1M; also at 2 and 5 times these."""
    sizes = sorted(parameters) or [1]
    low, high = sizes[0] / _ROOM, sizes[-1] * _ROOM
    mantissas = (1, 2, 5) if math.log10(high / low) <= _MOST_DECADES else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    marked = (mantissa * 10**exponent for exponent in exponents for mantissa in mantissas)
    ticks = {float(each): size(each) for each in marked if low <= each <= high}
    return Axis(title="parameters", span=(low, high), ticks=ticks or {float(p): size(p) for p in sizes})


def size_panel(
    title: str,
    points: Sequence[Point],
    series: Sequence[Series],
    ramp: SizeRamp,
    *,
    y: str,
    level: float | None = None,
) -> Panel:
    """A panel on logarithmic axes; ``level`` is a value to compare with."""
    drawn = [point for each in series for point in known(points, each.quantity)]
    low, high = _span(drawn, level)
    traces = [trace for each in series for trace in _traces(known(points, each.quantity), each, ramp, low)]
    return Panel(
        title=title,
        x=size_axis(point.parameters for point in drawn),
        y=Axis(title=y, span=(low, high), powers=high / low >= _PLAIN or low < _TINY),
        traces=tuple(traces),
        shapes=() if level is None else (level_line(level),),
    )


def _traces(points: Sequence[Point], series: Series, ramp: SizeRamp, floor: float) -> list[dict[str, Any]]:
    inside = [point for point in points if point.value > floor]
    aside = _ASIDE**series.aside
    x, y = [p.parameters * aside for p in inside], [p.value for p in inside]
    dash = "dot" if series.is_open else "solid"
    texts = [_described(p, series.label) for p in inside]
    traces = [line(x, y, texts, colour=FAINT, meta=series.keys, dash=dash, width=1.0, markers=False)]
    for point in points:
        below = point.value <= floor
        trace = marks(
            [point.parameters * aside],
            [floor * 1.04 if below else point.value],
            [_described(point, series.label)],
            colour=ramp(point.parameters),
            meta={"size": str(point.parameters), **series.keys},
            symbol="triangle-down-open" if below else series.symbol,
            size=9,
            bars=None if below or math.isnan(point.low) else [(max(point.low, floor), point.high)],
        )
        traces.append(trace)
    return traces


def _described(point: Point, label: str) -> str:
    whole = "" if math.isnan(point.low) else f"95%: {_ends(point)}"
    runs = "" if point.runs is None else counted(point.runs, "seed")
    return hover(
        f"{point.family}, {size(point.parameters)} parameters",
        runs,
        quantity_text(label, point.value, point.stderr),
        whole,
    )


def _ends(point: Point) -> str:
    if abs(point.value) >= 0.01:
        return interval(point.low, point.high)
    return f"{point.low:.2e} to {point.high:.2e}"


def _span(points: Sequence[Point], level: float | None) -> tuple[float, float]:
    """Room for every positive value, and for those ends of intervals that lie within a factor of 3 of the values."""
    values = [point.value for point in points if point.value > 0] + ([] if level is None else [level])
    if not values:
        values = [point.high for point in points if point.high > 0] or [1.0]
    low, high = min(values), max(values)
    ends = [end for point in points for end in (point.low, point.high) if low / 3 < end < high * 3]
    return min([low, *ends]) / _ROOM, max([high, *ends]) * _ROOM
