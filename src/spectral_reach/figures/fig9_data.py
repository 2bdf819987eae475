"""The numbers behind Figure 9, by family: loss and position along the training of every ViT, and where it ends."""

from __future__ import annotations

from spectral_reach.figures.late_points import late_points
from spectral_reach.figures.points import Point, curve_points
from spectral_reach.studies.analysis.size_average import size_averages
from spectral_reach.studies.analysis.size_windows import by_size, loss_windows, measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData

POSITIONS = ("chi_pos", "chi_pos_unbiased")
LATE = "late_"


def family_points(family: FamilyData) -> tuple[Point, ...]:
    """All points of a family: ``train_loss`` and both ``POSITIONS`` by size, then their late averages by size."""
    points: list[Point] = []
    for parameters, runs in by_size(family.runs).items():
        points += curve_points(family.key, parameters, loss_windows(runs), ("train_loss",))
        points += curve_points(family.key, parameters, measurement_windows(runs), POSITIONS)
    return (*points, *late_points(family.key, size_averages(family.runs), POSITIONS, LATE))
