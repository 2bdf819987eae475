"""Figure 5: chi_net against compute, in full training and in probing on a random backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spectral_reach.figures.fig4 import title_of
from spectral_reach.figures.fig5_data import CHI_NET, GROWTH, set_points
from spectral_reach.figures.folders import read_probes
from spectral_reach.figures.points import Point
from spectral_reach.figures.value_panel import limits
from spectral_reach.reports.chart import Chart
from spectral_reach.reports.charts.size_curves import Curve, curve_legend, curve_panel, size_legend
from spectral_reach.reports.charts.traces import level_line
from spectral_reach.reports.colours import SizeRamp
from spectral_reach.studies.analysis.probe_sets import ProbeSet

_FULL, _PROBING = "full", "probing"


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the probes of these studies; None where none has begun. Raises as ``read_probes``."""
    sets = read_probes(folders)
    if not sets:
        return None
    columns = [(title_of(each), _points(each)) for each in sets]
    runs = [run for s in sets for family in (s.full, s.random) if family is not None for run in family.runs]
    ramp = SizeRamp(run.parameters for run in runs)
    panels = []
    for quantity, y in ((CHI_NET, "chi_net"), (GROWTH, "chi_net over its first window")):
        for title, points in columns:
            curves = _curves(quantity)
            low, high = limits(points, *(curve.quantity for curve in curves))
            span = (low, high) if quantity == CHI_NET else (min(low, 0.9), max(high, 1.1))
            shapes = () if quantity == CHI_NET else (level_line(1.0),)
            panels.append(curve_panel(f"{title}: {y}", points, curves, ramp, y=y, span=span, shapes=shapes))
    return Chart(
        key="fig5",
        title="chi_net in full training and in probing (Figure 5)",
        shows=(
            "chi_net, whose level depends on what is trained, and chi_net over that of the first window. Solid: "
            "everything is trained; dashed: the readout alone, on a random backbone. Bands are one standard error."
        ),
        legends=(size_legend(runs, ramp), curve_legend(*_curves(CHI_NET), title="trained")),
        panels=tuple(panels),
    )


def _curves(quantity: str) -> tuple[Curve, Curve]:
    return (
        Curve(quantity=f"{_FULL} {quantity}", label="everything", key=_FULL),
        Curve(quantity=f"{_PROBING} {quantity}", label="the readout", key=_PROBING, dash="dash"),
    )


def _points(probes: ProbeSet) -> tuple[Point, ...]:
    """The figure's points, the way of training before the name of the quantity: each is a curve of its own here."""
    full = None if probes.full is None else probes.full.key
    return tuple(
        replace(point, quantity=f"{_FULL if point.family == full else _PROBING} {point.quantity}")
        for point in set_points(probes)
    )
