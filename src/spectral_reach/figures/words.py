"""Sentences under figures that more than one of them needs, from the points that are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from spectral_reach.figures.points import Point, known, of_sizes
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.numbers import signed, size, small

SHORT = (1e-2, 1e4)  # factors between these are written without a power of ten


def factor(value: float) -> str:
    """``0.56``, ``1.0``, ``12``, ``3.40×10⁻⁴``."""
    if SHORT[0] <= value < SHORT[1]:
        return f"{value:#.2g}".rstrip(".") if value < 99.5 else f"{value:,.0f}"
    return small(Estimate(value=value, stderr=math.nan, n=1, reason="a factor"))


def along_training(points: Sequence[Point], quantities: Sequence[str]) -> str:
    """The last window over the first of every quantity, for the smallest and the largest size."""
    sizes = of_sizes(points)
    parts = []
    for parameters, of_size in sizes if len(sizes) < 2 else (sizes[0], sizes[-1]):
        curves = {quantity: known(of_size, quantity) for quantity in quantities}
        listed = [f"{quantity} {_change(curve)}" for quantity, curve in curves.items() if len(curve) > 1]
        if listed:
            parts.append(f"at {size(parameters)} parameters {', '.join(listed)}")
    return f"Last window over first: {'; '.join(parts)}." if parts else ""


def _change(curve: Sequence[Point]) -> str:
    first, last = curve[0].value, curve[-1].value
    if first > 0 and last > 0:
        return factor(last / first)
    return "ends at or below 0" if last <= 0 else "begins at or below 0"


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def at_ends(points: Sequence[Point], names: Mapping[str, str], level: float | None = None) -> str:
    """Every quantity at the smallest and at the largest size, with its interval, under its name; clauses and a stop.

    With ``level`` also at how many of the sizes the interval holds it, and at which there is none (``ratio_points``).
    """
    clauses = []
    for quantity, name in names.items():
        curve = known(points, quantity)
        if not curve:
            continue
        ends = curve if len(curve) == 1 else (curve[0], curve[-1])
        clause = f"{name} {joined([f'{_with_interval(p)} at {size(p.parameters)}' for p in ends])}"
        told = [p for p in curve if not math.isnan(p.low)]
        if level is not None and told:
            held = sum(p.low <= level <= p.high for p in told)
            lacking = [size(p.parameters) for p in points if p.quantity == quantity and math.isnan(p.value)]
            none = f"; none at {joined(lacking)}, not significantly positive" if lacking else ""
            clause += f" ({held} of {len(told)} intervals hold {level:g}{none})"
        clauses.append(clause)
    return "; ".join(clauses) + "."


def _with_interval(point: Point) -> str:
    """``1.47 (1.18 to 1.90)``: as many decimals as leave two digits of the value and of the interval's width."""
    if math.isnan(point.low):
        return factor(point.value)
    width = point.high - point.low
    places = max(0, *(1 - math.floor(math.log10(abs(x))) for x in (point.value, width) if x != 0))
    return f"{signed(point.value, places)} ({signed(point.low, places)} to {signed(point.high, places)})"


def late_positions(points: Sequence[Point], prefix: str) -> str:
    """Where both positions of the smallest and the largest size end; ``prefix`` goes before the quantities' names."""
    sentences = []
    for name, what in (("chi_pos_unbiased", "chi_pos_unbiased"), ("chi_pos", "mini-batch chi_pos")):
        curve = known(points, prefix + name)
        if not curve:
            continue
        if len(curve) == 1:
            sentences.append(f"{what} is {_late(curve[0])}")
            continue
        first, last = curve[0], curve[-1]
        apart = "their 95% intervals do not overlap" if _apart(first, last) else "their 95% intervals overlap"
        if math.isnan(first.low) or math.isnan(last.low):
            apart = "without interval"
        sentences.append(f"{what} is {_late(first)} and {_late(last)} ({apart})")
    if not sentences:
        return "No run is finished: nothing is averaged yet."
    return f"Over the last tenth of training {'; '.join(sentences)}."


def _late(point: Point) -> str:
    reason = "no interval" if math.isnan(point.stderr) else None
    estimate = Estimate(value=point.value, stderr=point.stderr, n=point.n or 0, reason=reason)
    return f"{small(estimate)} at {size(point.parameters)}"


def _apart(one: Point, other: Point) -> bool:
    return one.high < other.low or other.high < one.low
