"""Figure 7: the whole decomposition against compute, delta_loss = chi_loss * chi_net * chi_pos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spectral_reach.figures.fig7_data import family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.value_panel import limits
from spectral_reach.figures.words import along_training
from spectral_reach.reports.chart import Chart
from spectral_reach.reports.charts.size_curves import Curve, curve_legend, curve_panel, noisy_pair, size_legend
from spectral_reach.reports.colours import SizeRamp

_COMPONENTS = {
    "chi_loss": (Curve(quantity="chi_loss", label="chi_loss", key=""),),
    "chi_net": (Curve(quantity="chi_net", label="chi_net", key=""),),
    "chi_pos": noisy_pair("chi_pos"),
    "delta_loss": noisy_pair("delta_loss"),
}
_WORDS = ("chi_loss", "chi_net", "chi_pos_unbiased", "delta_loss_unbiased")


def chart(folders: Sequence[Path]) -> Chart:
    """The chart of all families of these studies. Raises as ``read_families``."""
    families = read_families(folders)
    points = [family_points(family) for family in families]
    runs = [run for family in families for run in family.runs]
    ramp = SizeRamp(run.parameters for run in runs)
    panels = [
        curve_panel(
            f"{family.label}: {name}",
            column,
            curves,
            ramp,
            y=name,
            span=limits(column, name) if len(curves) == 1 else None,
        )
        for name, curves in _COMPONENTS.items()
        for family, column in zip(families, points, strict=True)
    ]
    return Chart(
        key="fig7",
        title="The decomposition against compute (Figure 7)",
        shows=(
            "delta_loss = chi_loss·chi_net·chi_pos: on logarithmic axes the changes of the three add up to that of the "
            "product. Solid: of the population, corrected for gradient noise; dotted: of the mini-batch. Bands are one "
            "standard error."
        ),
        legends=(size_legend(runs, ramp), curve_legend(*noisy_pair("chi_pos"), title="chi_pos, delta_loss")),
        panels=tuple(panels),
        words=tuple(
            f"{family.label}. {along_training(column, _WORDS)}" for family, column in zip(families, points, strict=True)
        ),
    )
