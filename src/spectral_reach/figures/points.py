"""One point of a figure of model sizes, a row of its CSV: what is drawn is in the points, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.size_windows import SizeWindow


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of one curve, or of one panel against size.

    Attributes:
        family: key of the family, the column of the figure.
        parameters: of the size.
        quantity: what ``value`` is; each figure's data module lists its own.
        runs: seeds of the size that are averaged; none where the point stands for several sizes.
        first_step: first step behind the point; none where it is not about steps.
        last_step: last step behind the point.
        n: losses or measurements behind it, of all runs.
        n_units: units of each measurement.
        tokens: seen by a run; NaN where the point is not on an axis of training.
        flops: compute spent by a run; NaN likewise.
        value: a mean, or a ratio of means; NaN where undefined.
        stderr: its standard error, over runs where there are several, else over the losses or measurements; NaN where
            there are too few.
        low: 95% interval, where one is drawn in place of the standard error; else NaN.
        high: its upper end.
    """

    family: str
    parameters: int
    quantity: str
    runs: int | None = None
    first_step: int | None = None
    last_step: int | None = None
    n: int | None = None
    n_units: int | None = None
    tokens: float = math.nan
    flops: float = math.nan
    value: float
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan


COLUMNS = tuple(field.name for field in fields(Point))


def as_row(point: Point) -> dict[str, Any]:
    """A row of the CSV; undefined is empty."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(point).items()
    }


def parameters_of(point: Point) -> float:
    """Where a point lies on an axis of size."""
    return float(point.parameters)


def known(points: Sequence[Point], *quantities: str) -> list[Point]:
    """Those of these quantities that have a value."""
    return [point for point in points if point.quantity in quantities and not math.isnan(point.value)]


def of_sizes(points: Sequence[Point]) -> list[tuple[int, list[Point]]]:
    """The points of each size, in the order in which the sizes come."""
    return [(size, [p for p in points if p.parameters == size]) for size in dict.fromkeys(p.parameters for p in points)]


def curve_points(
    family: str, parameters: int, windows: Iterable[SizeWindow], quantities: Sequence[str], prefix: str = ""
) -> Iterator[Point]:
    """The points of one size, window by window; a window without compute has no place on a logarithmic axis.

    ``prefix`` goes before the names of the quantities, as in ``heldout_chi_pos``.
    """
    for window in windows:
        for quantity in quantities if window.flops > 0 else ():
            yield _of_window(family, parameters, prefix + quantity, window, window.estimates[quantity])


def _of_window(family: str, parameters: int, quantity: str, window: SizeWindow, estimate: Estimate) -> Point:
    return Point(
        family=family,
        parameters=parameters,
        quantity=quantity,
        runs=window.runs,
        first_step=window.first_step,
        last_step=window.last_step,
        n=estimate.n,
        n_units=window.n_units,
        tokens=window.tokens,
        flops=window.flops,
        value=estimate.value,
        stderr=estimate.stderr,
    )
