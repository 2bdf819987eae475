"""The numbers behind Figure 5, by data set: chi_net along full training and along probing on random backbones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from spectral_reach.figures.points import Point, curve_points
from spectral_reach.studies.analysis.probe_sets import ProbeSet
from spectral_reach.studies.analysis.size_windows import by_size, measurement_windows
from spectral_reach.studies.analysis.study_data import FamilyData

CHI_NET, GROWTH = "chi_net", "chi_net_over_first"


def set_points(probes: ProbeSet) -> tuple[Point, ...]:
    """``CHI_NET`` and ``GROWTH`` of every size: of full training, and of probes on random backbones.

    ``family`` tells which. ``GROWTH`` is chi_net over that of the size's first window; its error is that of the window,
    not of the first.
    """
    families = [family for family in (probes.full, probes.random) if family is not None]
    return tuple(point for family in families for point in _of_family(family))


def _of_family(family: FamilyData) -> Iterator[Point]:
    for parameters, runs in by_size(family.runs).items():
        windows = measurement_windows(runs)
        yield from curve_points(family.key, parameters, windows, (CHI_NET,))
        if windows and windows[0].estimates[CHI_NET].value > 0:
            first = windows[0].estimates[CHI_NET].value
            for point in curve_points(family.key, parameters, windows, (CHI_NET,)):
                yield replace(point, quantity=GROWTH, value=point.value / first, stderr=point.stderr / first)
