"""The numbers behind the figure of loss reduction: everything that is drawn, one row a point."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from spectral_reach.spectra.result import Spectrum
from spectral_reach.studies.analysis.loss_reduction_report import QUANTILES
from spectral_reach.studies.analysis.spectra import Measured, SpectraResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of one curve.

    Attributes:
        parameters: of the model.
        step: of the snapshot.
        quantity: ``cumulative`` (share of the loss reduction at and below x = p), ``quantile`` (position of the share
            x), ``chi_pos``, ``modes_above`` (eigenvalues above x = p) or ``narrowing`` (the interval that is certain of
            the median after x Lanczos steps).
        x: as said.
        value: of the quantity; NaN for an interval.
        low: lower end of what is certain, or of one standard error for ``modes_above``; NaN where there is none.
        high: upper end.
    """

    parameters: int
    step: int
    quantity: str
    x: float
    value: float
    low: float = math.nan
    high: float = math.nan


COLUMNS = tuple(field.name for field in fields(Point))


def points_of(result: SpectraResult) -> tuple[Point, ...]:
    """All points, size by size and snapshot by snapshot; distributions of the largest model only."""
    largest = result.sizes[-1]
    last = result.steps_of(largest)[-1]
    points: list[Point] = []
    for measured in result.measured:
        points.extend(_positions(measured))
        if measured.parameters == largest:
            points.extend(_cumulative(measured))
            if measured.step == last:
                points.extend(_narrowing(measured))
                points.extend(_density(measured))
    return tuple(points)


def _positions(measured: Measured) -> Iterator[Point]:
    spectrum = measured.spectrum
    for q in QUANTILES:
        bounds = spectrum.position_bounds(q)
        yield _point(measured, "quantile", q, spectrum.position_quantile(q), bounds.low, bounds.high)
    yield _point(measured, "chi_pos", 0.0, spectrum.chi_pos)


def _cumulative(measured: Measured) -> Iterator[Point]:
    rule = measured.spectrum.loss_reduction
    for node, share in zip(rule.nodes[::-1], np.cumsum(rule.weights[::-1]), strict=True):
        if node > 0:
            yield _point(measured, "cumulative", float(node), float(share))


def _narrowing(measured: Measured) -> Iterator[Point]:
    spectrum = measured.spectrum
    for steps in _asked(spectrum):
        bounds = spectrum.position_bounds(0.5, steps=steps)
        yield _point(measured, "narrowing", steps, math.nan, bounds.low, bounds.high)


def _asked(spectrum: Spectrum) -> list[int]:
    """Numbers of Lanczos steps, evenly in their logarithm, where there are bounds at all."""
    return sorted({round(m) for m in np.geomspace(2, spectrum.steps, 14)}) if spectrum.steps > 1 else []


def _density(measured: Measured) -> Iterator[Point]:
    density = measured.spectrum.density
    if density is not None:
        for p, above, stderr in zip(*density.curve(80), strict=True):
            yield _point(
                measured, "modes_above", float(p), float(above), max(0.0, float(above - stderr)), float(above + stderr)
            )


def _point(
    measured: Measured, quantity: str, x: float, value: float, low: float = math.nan, high: float = math.nan
) -> Point:
    return Point(
        parameters=measured.parameters,
        step=measured.step,
        quantity=quantity,
        x=x,
        value=value,
        low=low,
        high=high,
    )
