"""The numbers behind Figure 4, by data set: late position of probes on random and on pre-trained backbones."""

from __future__ import annotations

from spectral_reach.figures.late_points import late_points, ratio_points
from spectral_reach.figures.points import Point
from spectral_reach.studies.analysis.backbone_pairs import backbone_pairs
from spectral_reach.studies.analysis.probe_sets import ProbeSet
from spectral_reach.studies.analysis.size_average import size_averages

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
            pairs = backbone_pairs(probes.random, probes.pretrained, position)
            points += ratio_points(probes.random.key, RATIO + position, pairs)
    return tuple(points)
