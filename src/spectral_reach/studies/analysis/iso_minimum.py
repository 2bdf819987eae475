"""The best size at a fixed compute: the minimum over model sizes of a curve of few points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray
from spectral_reach.studies.analysis.interval import Interval


class Place(StrEnum):
    """Where the lowest value lies among the sizes."""

    INTERIOR = "interior"
    SMALLEST = "at the edge: smallest size"
    LARGEST = "at the edge: largest size"


@dataclass(frozen=True, kw_only=True, slots=True)
class IsoMinimum:
    """The minimum of one curve.

    Attributes:
        parameters: the size at the minimum; at an edge that size, the minimum itself being there or beyond.
        value: of the curve there; NaN without a minimum.
        place: None without a minimum.
        share_interior: share of the redrawn curves whose minimum is interior; where it is low, the interval of
            ``parameters`` ends at the edges.
        reason: why there is none.
    """

    parameters: Interval
    value: float
    place: Place | None
    share_interior: float
    reason: str | None = None


def iso_minimum(sizes: Sequence[int], estimates: Sequence[Estimate], *, seed: int = 0, draws: int = 1000) -> IsoMinimum:
    """The vertex of the parabola in log size through the logarithms of the lowest value and of its two neighbours.

    If the lowest value is that of the smallest or the largest size, that is the answer. The interval redraws every
    value within its standard error, lognormally, and finds the minimum again, edges included.

    Args:
        sizes: increasing.
        estimates: one a size; those without value or error are left out.
        seed: of the draws.
        draws: redrawn curves.
    """
    kept = [(size, e) for size, e in zip(sizes, estimates, strict=True) if e.is_defined]
    if len(kept) < 3:
        return _none(f"{len(kept)} sizes have a value and an error, 3 are needed")
    for size, e in kept:
        if e.value <= 0:
            return _none(f"the value of {size} parameters is not above 0: {e.value:.2g} ± {e.stderr:.2g}")
    x = np.log([size for size, _ in kept])
    y = np.log([e.value for _, e in kept])
    spread = np.array([e.stderr / e.value for _, e in kept])
    best, lowest = (float(one[0]) for one in _minima(x, y[None]))
    index = int(y.argmin())
    place = Place.SMALLEST if index == 0 else Place.LARGEST if index == len(x) - 1 else Place.INTERIOR
    redrawn = y + spread * np.random.default_rng(seed).standard_normal((draws, len(x)))
    at = redrawn.argmin(axis=1)
    return IsoMinimum(
        parameters=Interval.of_draws(best, _minima(x, redrawn)[0]),
        value=math.exp(lowest),
        place=place,
        share_interior=float(((at > 0) & (at < len(x) - 1)).mean()),
    )


def _minima(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(D) sizes at the minima of D curves (D, n), and (D) logarithms of the values there; at an edge, those of the
    edge."""
    rows = np.arange(len(y))
    lowest = y.argmin(axis=1)
    middle = np.clip(lowest, 1, len(x) - 2)
    left, right = x[middle - 1] - x[middle], x[middle + 1] - x[middle]
    low = y[rows, middle]
    slope_left, slope_right = (y[rows, middle - 1] - low) / left, (y[rows, middle + 1] - low) / right
    # y - low = bend s^2 + tilt s, s the log size from the middle.
    bend = (slope_right - slope_left) / (right - left)
    tilt = slope_left - bend * left
    flat = bend <= 0  # three equal values, or an edge, which is taken as it is
    shift = np.where(flat, 0.0, -tilt / (2 * np.where(flat, 1.0, bend)))
    interior = lowest == middle
    at = np.where(interior, np.exp(np.where(interior, x[middle] + shift, 0.0)), np.rint(np.exp(x[lowest])))
    height = np.where(interior, low + bend * shift**2 + tilt * shift, y[rows, lowest])
    return at, height


def _none(reason: str) -> IsoMinimum:
    return IsoMinimum(parameters=Interval.missing(), value=math.nan, place=None, share_interior=math.nan, reason=reason)
