"""The numbers behind Figure 7, by family: every component of the decomposition along the training of every size."""

from __future__ import annotations

from spectral_reach.figures.points import Point, curve_points
from spectral_reach.studies.analysis.size_windows import by_size, measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData

QUANTITIES = ("chi_loss", "chi_net", "chi_pos", "chi_pos_unbiased", "delta_loss", "delta_loss_unbiased")


def family_points(family: FamilyData) -> tuple[Point, ...]:
    """All points of a family, size by size."""
    return tuple(
        point
        for parameters, runs in by_size(family.runs).items()
        for point in curve_points(family.key, parameters, measurement_windows(runs), QUANTITIES)
    )
