"""The numbers behind Figure 3: everything that is drawn, one row a point, and nothing that is not in the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.analysis.random_features import ExponentResult

COMPONENTS = ("chi_loss", "chi_net", "chi_pos")
SPECTRA = ("covariance", "p_limit", "p_network")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point.

    Attributes:
        exponent: beta of the covariance eigenvalues k^-beta.
        quantity: one of ``SPECTRA`` (normalised eigenvalues, sum 1) or of ``COMPONENTS``.
        k: which eigenvalue, from 1; of a component none.
        draws: behind it.
        value: mean over the draws.
        stderr: its standard error over the draws; NaN where there is one draw, and for spectra.
        predicted: of a component; NaN for spectra.
    """

    exponent: float
    quantity: str
    k: int | None
    draws: int
    value: float
    stderr: float
    predicted: float


COLUMNS = tuple(field.name for field in fields(Point))


def as_row(point: Point) -> dict[str, Any]:
    """A row of the CSV; undefined is empty."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in asdict(point).items()
    }


def points_of(result: ExponentResult) -> tuple[Point, ...]:
    """All points of an exponent: spectra, then components."""
    spectra = {
        "covariance": result.covariance / result.covariance.sum(),
        "p_limit": result.p_limit,
        "p_network": result.p_network,
    }
    curves = (point for name in SPECTRA for point in _spectrum(result, name, spectra[name]))
    return (*curves, *_components(result))


def _spectrum(result: ExponentResult, quantity: str, values: FloatArray) -> Iterator[Point]:
    for k, value in enumerate(values, start=1):
        yield Point(
            exponent=result.exponent,
            quantity=quantity,
            k=k,
            draws=result.draws,
            value=float(value),
            stderr=math.nan,
            predicted=math.nan,
        )


def _components(result: ExponentResult) -> Iterator[Point]:
    predicted = {"chi_loss": 1.0, "chi_net": 1.0, "chi_pos": result.predicted_chi_pos}
    for quantity in COMPONENTS:
        estimate = getattr(result, quantity)
        yield Point(
            exponent=result.exponent,
            quantity=quantity,
            k=None,
            draws=result.draws,
            value=estimate.value,
            stderr=estimate.stderr,
            predicted=predicted[quantity],
        )
