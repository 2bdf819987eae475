"""The numbers behind Figure 6: everything that is drawn, one row a point, and nothing that is not in the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectral_reach.studies.analysis.convergence import Convergence, Row

MOST_REPETITIONS = 50
"""Averages of one M that are drawn; the spread is that of all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point.

    Attributes:
        panel: ``a`` (averages), ``b`` (their variation; against draws there, against seconds in panel d) or ``c``
            (variation of one draw).
        quantity: ``average``, ``mean``, ``variation``, ``fit`` (the fitted power) or ``variation_of_one``.
        run: of the model.
        parameters: of the model.
        step: updates that it had made.
        way: the estimator.
        units: that a draw measures; 0 for all.
        averaged: M, draws of an average.
        repetitions: disjoint averages, or draws, behind the point; of a fit none.
        seconds: that M draws take.
        value: of the quantity.
        low: of its 95% interval; NaN where there is none.
        high: likewise; for ``mean``, one standard deviation of the averages to each side.
    """

    panel: str
    quantity: str
    run: str
    parameters: int
    step: int
    way: str
    units: int
    averaged: int
    repetitions: int | None
    seconds: float
    value: float
    low: float
    high: float


COLUMNS = tuple(field.name for field in fields(Point))


def as_row(point: Point) -> dict[str, Any]:
    """A row of the CSV; undefined is empty."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(point).items()
    }


def points_of(result: Convergence) -> tuple[Point, ...]:
    """All points of a study whose main row has begun, panel by panel."""
    assert result.main is not None
    points = [*_averages(result.main)]
    for row in result.ways:
        points += _variations(row)
    points += _fit(result.main)
    points += [point for row in result.along for point in _singles(row)]
    return tuple(points)


def _point(row: Row, panel: str, quantity: str, averaged: int, value: float, **others: Any) -> Point:
    values: dict[str, Any] = {"repetitions": None, "low": math.nan, "high": math.nan, **others}
    return Point(
        panel=panel,
        quantity=quantity,
        run=row.run,
        parameters=row.parameters,
        step=row.step,
        way=row.way,
        units=row.units,
        averaged=averaged,
        seconds=averaged * row.seconds,
        value=value,
        **values,
    )


def _averages(row: Row) -> Iterator[Point]:
    mean = float(row.draws.mean())
    for each in row.points:
        for value in each.means[:MOST_REPETITIONS]:
            yield _point(row, "a", "average", each.averaged, float(value), repetitions=1)
        reach = each.variation * mean
        yield _point(
            row, "a", "mean", each.averaged, mean, repetitions=len(each.means), low=mean - reach, high=mean + reach
        )


def _variations(row: Row) -> Iterator[Point]:
    for each in row.points:
        yield _point(
            row,
            "b",
            "variation",
            each.averaged,
            each.variation,
            repetitions=len(each.means),
            low=each.low,
            high=each.high,
        )


def _fit(row: Row) -> Iterator[Point]:
    power = row.power
    for each in row.points if power.reason is None else ():
        yield _point(row, "b", "fit", each.averaged, power.single * each.averaged**power.exponent)


def _singles(row: Row) -> Iterator[Point]:
    single = row.single
    if single.is_defined:
        # On the logarithm, where the error is nearly symmetric and the interval stays above 0.
        factor = math.exp(1.96 * single.stderr / single.value)
        yield _point(
            row,
            "c",
            "variation_of_one",
            1,
            single.value,
            repetitions=single.n,
            low=single.value / factor,
            high=single.value * factor,
        )
