"""The numbers behind Figure 8, by family: losses and positions on training and on held-out data, and late ratios."""

from __future__ import annotations

from collections.abc import Iterator

from spectral_reach.figures.late_points import ratio_points
from spectral_reach.figures.points import Point, curve_points
from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.late_average import LateAverage, late_average
from spectral_reach.studies.analysis.size_ratio import Pair
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
    return (*points, *_ratios(family))


def _ratios(family: FamilyData) -> Iterator[Point]:
    """The ``RATIOS`` of finished runs, each of a run's two averages."""
    late = [(run, late_average(run, heldout=True), late_average(run)) for run in family.runs if run.is_finished]
    comparable = all(heldout.n_units == train.n_units for _, heldout, train in late)
    pairs: dict[str, dict[int, list[Pair]]] = {name: {} for name in RATIOS if comparable or name != "ratio_chi_pos"}
    for run, heldout, train in late:
        both = {
            "ratio_loss": (_final_loss(heldout), train.train_loss),
            **{f"ratio_{name}": (getattr(heldout, name), getattr(train, name)) for name in POSITIONS},
        }
        for name, of_sizes in pairs.items():
            above, below = both[name]
            of_sizes.setdefault(run.parameters, []).append(Pair(seed=run.seed, above=above, below=below))
    for name, of_sizes in pairs.items():
        yield from ratio_points(family.key, name, of_sizes)


def _final_loss(average: LateAverage) -> Estimate:
    """The held-out loss of the final model, one evaluation: what it varies by only other seeds can tell."""
    if average.heldout_reason is not None:
        return Estimate.missing(average.heldout_reason)
    return Estimate(value=average.heldout_loss, stderr=0.0, n=1)
