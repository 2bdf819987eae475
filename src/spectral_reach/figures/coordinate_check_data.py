"""The numbers behind the coordinate check's figure: everything that is drawn, one row a point, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from spectral_reach.studies.analysis.coordinate_check import RateCurve, SideResult, SizeCurve
from spectral_reach.studies.analysis.estimate import FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point.

    Attributes:
        family: of models.
        parametrisation: of the weights and rates.
        quantity: ``size``, ``loss``, or ``best`` for the best rate of a width.
        kind: of activation; of a loss none.
        width: of the model.
        rate: the learning rate; of a size none.
        seeds: behind it.
        value: geometric mean of root mean squares; mean loss; lowest mean loss.
        relative: to the same at the narrowest width; of a loss NaN.
        low, high: one standard error over seeds below and above ``relative``, or ``value`` of a loss; NaN for one seed.
    """

    family: str
    parametrisation: str
    quantity: str
    kind: str | None
    width: int
    rate: float | None
    seeds: int
    value: float
    relative: float
    low: float
    high: float


COLUMNS = tuple(field.name for field in fields(Point))


def as_row(point: Point) -> dict[str, Any]:
    """A row of the CSV; undefined is empty."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(point).items()
    }


def points_of(side: SideResult) -> tuple[Point, ...]:
    """All points of a side: sizes, then losses and the best rates."""
    sizes = (point for curve in side.sizes for point in _sizes(side, curve))
    losses = (point for curve in side.rates for point in _losses(side, curve))
    return (*sizes, *losses)


def _sizes(side: SideResult, curve: SizeCurve) -> Iterator[Point]:
    logs = np.log(curve.sizes)
    relative = logs - logs[:, :1].mean()
    for i, width in enumerate(curve.widths):
        middle, error = float(relative[:, i].mean()), _stderr(relative[:, i])
        yield Point(
            family=side.side.family,
            parametrisation=side.side.parametrisation,
            quantity="size",
            kind=curve.name,
            width=width,
            rate=None,
            seeds=len(logs),
            value=math.exp(float(logs[:, i].mean())),
            relative=math.exp(middle),
            low=math.exp(middle - error),
            high=math.exp(middle + error),
        )


def _losses(side: SideResult, curve: RateCurve) -> Iterator[Point]:
    """Rates at which a seed diverged have no point."""

    def point(quantity: str, rate: float, value: float, error: float) -> Point:
        return Point(
            family=side.side.family,
            parametrisation=side.side.parametrisation,
            quantity=quantity,
            kind=None,
            width=curve.width,
            rate=rate,
            seeds=len(curve.losses),
            value=value,
            relative=math.nan,
            low=value - error,
            high=value + error,
        )

    finite = [
        point("loss", rate, float(losses.mean()), _stderr(losses))
        for rate, losses in zip(curve.rates, curve.losses.T, strict=True)
        if np.isfinite(losses).all()
    ]
    yield from finite
    if finite and math.isfinite(curve.best.value):
        yield point("best", 2**curve.best.value, min(each.value for each in finite), math.nan)


def _stderr(values: FloatArray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
