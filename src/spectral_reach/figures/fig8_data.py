"""The numbers behind Figure 8, by family: losses and positions on training and on held-out data, and late ratios."""

from __future__ import annotations

from spectral_reach.figures.late_points import ratio_points
from spectral_reach.figures.points import Point, curve_points
from spectral_reach.studies.analysis.size_average import size_averages
from spectral_reach.studies.analysis.size_windows import by_size, heldout_losses, loss_windows, measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData

POSITIONS = ("chi_pos", "chi_pos_unbiased")
HELDOUT = "heldout_"
RATIOS = ("ratio_loss", "ratio_chi_pos", "ratio_chi_pos_unbiased")
"""Held-out over training, averaged over the last tenth of training; the loss of the final model over those averages."""


def family_points(family: FamilyData) -> tuple[Point, ...]:
    """All points of a family: its curves size by size, then the ``RATIOS``.

    The ratio of mini-batch chi_pos is left out where the two were measured on different numbers of units, for it would
    compare those.
    """
    key = family.key
    points: list[Point] = []
    for parameters, runs in by_size(family.runs).items():
        heldout = measurement_windows(runs, lambda run: run.heldout)
        points += curve_points(key, parameters, loss_windows(runs), ("train_loss",))
        points += curve_points(key, parameters, heldout_losses(runs), ("heldout_loss",))
        points += curve_points(key, parameters, measurement_windows(runs), POSITIONS)
        points += curve_points(key, parameters, heldout, POSITIONS, HELDOUT)
    train = size_averages(family.runs)
    test = size_averages(family.runs, heldout=True)
    comparable = [a.n_units == b.n_units for a, b in zip(train, test, strict=True)]
    names = [name for name in POSITIONS if name == "chi_pos_unbiased" or all(comparable)]
    losses = ratio_points(key, train, train, [("ratio_loss", "heldout_loss", "train_loss")])
    return (*points, *losses, *ratio_points(key, test, train, [(f"ratio_{name}", name, name) for name in names]))
