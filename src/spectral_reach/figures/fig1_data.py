"""The numbers behind Figure 1: everything that is drawn, one row a point, and nothing that is not in the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.frontier import Frontier
from spectral_reach.studies.analysis.loss_curve import loss_curve
from spectral_reach.studies.analysis.study_data import FamilyData, RunData
from spectral_reach.studies.analysis.windows import windows


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of one curve.

    Attributes:
        family: key of the family, the column of the figure.
        run: name of the run; of the frontier none.
        parameters: of the run, or of the size that makes the frontier here.
        quantity: ``train_loss``, ``frontier`` (what was fitted), ``frontier_fit``, ``chi_pos``, ``chi_pos_unbiased``.
        first_step: first step behind the point; of the frontier none.
        last_step: last step behind the point.
        n: losses or measurements behind it.
        n_units: units of each measurement.
        flops: compute.
        value: the mean, or ratio of means; NaN where undefined.
        stderr: its standard error over the losses or measurements; NaN where there are too few.
    """

    family: str
    run: str | None
    parameters: int
    quantity: str
    first_step: int | None
    last_step: int | None
    n: int | None
    n_units: int | None
    flops: float
    value: float
    stderr: float


COLUMNS = tuple(field.name for field in fields(Point))


def as_row(point: Point) -> dict[str, Any]:
    """A row of the CSV; undefined is empty."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(point).items()
    }


def family_points(family: FamilyData, frontier: Frontier) -> tuple[Point, ...]:
    """All points of a family: losses and positions of its runs by size, then the frontier."""
    points = [point for run in family.runs for point in (*_losses(family.key, run), *_positions(family.key, run))]
    return (*points, *_frontier(family.key, frontier))


def _losses(family: str, run: RunData) -> Iterator[Point]:
    for window in loss_curve(run):
        yield Point(
            family=family,
            run=run.name,
            parameters=run.parameters,
            quantity="train_loss",
            first_step=window.first_step,
            last_step=window.last_step,
            n=window.n,
            n_units=None,
            flops=window.flops,
            value=window.loss,
            stderr=window.stderr,
        )


def _positions(family: str, run: RunData) -> Iterator[Point]:
    """Windows of measurements; one that holds step 0 alone has no place on an axis of log compute."""
    for window in windows(run.measurements):
        estimates: dict[str, Estimate] = {"chi_pos": window.chi_pos, "chi_pos_unbiased": window.chi_pos_unbiased}
        for quantity, estimate in estimates.items() if window.flops > 0 else ():
            yield Point(
                family=family,
                run=run.name,
                parameters=run.parameters,
                quantity=quantity,
                first_step=window.first_step,
                last_step=window.last_step,
                n=estimate.n,
                n_units=window.n_units,
                flops=window.flops,
                value=estimate.value,
                stderr=estimate.stderr,
            )


def _frontier(family: str, frontier: Frontier) -> Iterator[Point]:
    for quantity in ("frontier", "frontier_fit"):
        for point in frontier.points:
            yield Point(
                family=family,
                run=None,
                parameters=point.parameters,
                quantity=quantity,
                first_step=None,
                last_step=None,
                n=None,
                n_units=None,
                flops=point.flops,
                value=point.loss if quantity == "frontier" else frontier.loss_at(point.flops),
                stderr=math.nan,
            )
