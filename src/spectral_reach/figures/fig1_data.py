"""The numbers behind Figure 1, by family: the curves of its sizes and the frontier of their losses."""

from __future__ import annotations

from collections.abc import Iterator

from spectral_reach.figures.points import Point, curve_points
from spectral_reach.studies.analysis.frontier import Frontier
from spectral_reach.studies.analysis.size_windows import by_size, loss_windows, measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData

POSITIONS = ("chi_pos", "chi_pos_unbiased")


def family_points(family: FamilyData, frontier: Frontier) -> tuple[Point, ...]:
    """All points of a family: ``train_loss`` and both ``POSITIONS`` by size, then the ``frontier`` that was fitted, its
    ``parameters`` those of the size that makes it there, and ``frontier_fit``."""
    points: list[Point] = []
    for parameters, runs in by_size(family.runs).items():
        points += curve_points(family.key, parameters, loss_windows(runs), ("train_loss",))
        points += curve_points(family.key, parameters, measurement_windows(runs), POSITIONS)
    return (*points, *_frontier(family.key, frontier))


def _frontier(family: str, frontier: Frontier) -> Iterator[Point]:
    for quantity in ("frontier", "frontier_fit"):
        for point in frontier.points:
            value = point.loss if quantity == "frontier" else frontier.loss_at(point.flops)
            yield Point(family=family, parameters=point.parameters, quantity=quantity, flops=point.flops, value=value)
