"""The numbers behind Figure 4, by data set: late position of probes on random and on pre-trained backbones."""

from __future__ import annotations

from spectral_reach.figures.late_points import late_points, ratio_points
from spectral_reach.figures.points import Point
from spectral_reach.studies.analysis.late_average import late_average
from spectral_reach.studies.analysis.probe_sets import ProbeSet
from spectral_reach.studies.analysis.size_average import size_averages
from spectral_reach.studies.analysis.size_ratio import Pair
from spectral_reach.studies.analysis.study_data import FamilyData

POSITIONS = ("chi_pos_unbiased", "chi_pos")
PRETRAINED, RANDOM, RATIO = "pretrained_", "random_", "ratio_"


def set_points(probes: ProbeSet) -> tuple[Point, ...]:
    """Late averages of both ``POSITIONS`` with ``PRETRAINED`` and ``RANDOM`` backbones, and the ``RATIO`` of the two.

    At every size that has finished runs; ``family`` is that of the probes, of a ratio the random one. A ratio is of
    pairs of runs of one seed.
    """
    points: list[Point] = []
    for family, prefix in ((probes.random, RANDOM), (probes.pretrained, PRETRAINED)):
        if family is not None:
            points += late_points(family.key, size_averages(family.runs), POSITIONS, prefix)
    if probes.random is not None and probes.pretrained is not None:
        for position in POSITIONS:
            pairs = _pairs(probes.random, probes.pretrained, position)
            points += ratio_points(probes.random.key, RATIO + position, pairs)
    return tuple(points)


def _pairs(random: FamilyData, pretrained: FamilyData, position: str) -> dict[int, list[Pair]]:
    """Random over pre-trained by size; a run without a finished partner of its seed is in none."""
    partners = {(run.parameters, run.seed): run for run in pretrained.runs if run.is_finished}
    pairs: dict[int, list[Pair]] = {}
    for run in random.runs:
        partner = partners.get((run.parameters, run.seed))
        if run.is_finished and partner is not None:
            above, below = (getattr(late_average(each), position) for each in (run, partner))
            pairs.setdefault(run.parameters, []).append(Pair(seed=run.seed, above=above, below=below))
    return pairs
