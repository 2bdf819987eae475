"""The numbers behind Figure 10, by family: isocompute curves and their minima."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from spectral_reach.figures.points import Point, known
from spectral_reach.studies.analysis.iso_minimum import IsoMinimum, Place
from spectral_reach.studies.analysis.isocompute import QUANTITIES, IsoCompute, IsoCurve

MINIMUM, EDGE = "minimum_of_", "edge_of_"


def family_points(family: str, found: IsoCompute) -> tuple[Point, ...]:
    """The ``QUANTITIES`` of every size at every compute, then the minimum of each curve.

    A minimum between the sizes is called ``MINIMUM`` and its quantity, the lowest value at an edge, beyond which the
    minimum lies, ``EDGE`` and its quantity. ``low`` and ``high`` of these are the 95% interval of its parameters.
    """
    return tuple(point for curve in found.curves for point in _of_curve(family, curve))


def has_a_curve(points: Sequence[Point], quantity: str) -> bool:
    """Whether at one compute at least two sizes have the quantity; a point alone says nothing of fixed compute."""
    at_compute = Counter(point.flops for point in known(points, quantity))
    return max(at_compute.values(), default=0) > 1


def _of_curve(family: str, curve: IsoCurve) -> Iterator[Point]:
    for quantity in QUANTITIES:
        for at in curve.points:
            estimate = getattr(at, quantity)
            if not math.isnan(estimate.value):
                yield Point(
                    family=family,
                    parameters=at.parameters,
                    quantity=quantity,
                    runs=at.runs,
                    flops=curve.flops,
                    value=estimate.value,
                    stderr=estimate.stderr,
                )
        minimum: IsoMinimum = getattr(curve, quantity)
        if minimum.place is not None:
            kind = MINIMUM if minimum.place == Place.INTERIOR else EDGE
            yield Point(
                family=family,
                parameters=round(minimum.parameters.value),
                quantity=kind + quantity,
                flops=curve.flops,
                value=minimum.value,
                low=minimum.parameters.low,
                high=minimum.parameters.high,
            )
