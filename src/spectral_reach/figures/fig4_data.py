"""The numbers behind Figure 4, by data set: late position of probes on random and on pre-trained backbones."""

from __future__ import annotations

from spectral_reach.figures.late_points import late_points, ratio_points
from spectral_reach.figures.points import Point
from spectral_reach.studies.analysis.probe_sets import ProbeSet
from spectral_reach.studies.analysis.size_average import size_averages

POSITIONS = ("chi_pos_unbiased", "chi_pos")
PRETRAINED, RANDOM, RATIO = "pretrained_", "random_", "ratio_"


def set_points(probes: ProbeSet) -> tuple[Point, ...]:
    """Late averages of both ``POSITIONS`` with ``PRETRAINED`` and ``RANDOM`` backbones, and the ``RATIO`` of the two.

    At every size that has finished runs; ``family`` is that of the probes, of a ratio the random one.
    """
    random = () if probes.random is None else size_averages(probes.random.runs)
    pretrained = () if probes.pretrained is None else size_averages(probes.pretrained.runs)
    points: list[Point] = []
    if probes.random is not None:
        points += late_points(probes.random.key, random, POSITIONS, RANDOM)
    if probes.pretrained is not None:
        points += late_points(probes.pretrained.key, pretrained, POSITIONS, PRETRAINED)
    if probes.random is not None:
        ratios = [(RATIO + position, position, position) for position in POSITIONS]
        points += ratio_points(probes.random.key, random, pretrained, ratios)
    return tuple(points)
