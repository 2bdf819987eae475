"""Figure 8: training against held-out data, loss and spectral position."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spectral_reach.figures.fig8_data import HELDOUT, RATIOS, family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.points import Point, known
from spectral_reach.figures.value_panel import limits
from spectral_reach.figures.words import at_ends
from spectral_reach.reports.chart import Chart, Panel
from spectral_reach.reports.charts.size_curves import Curve, curve_legend, curve_panel, size_legend
from spectral_reach.reports.charts.size_marks import Series, series_legend, size_panel
from spectral_reach.reports.colours import SizeRamp
from spectral_reach.studies.analysis.study_data import FamilyData

_ON_TRAINING, _ON_HELDOUT = "on training data", "on held-out data"
_PANELS = {
    "loss (nats)": ("train_loss", "heldout_loss"),
    "chi_pos_unbiased": ("chi_pos_unbiased", f"{HELDOUT}chi_pos_unbiased"),
    "chi_pos of the mini-batch": ("chi_pos", f"{HELDOUT}chi_pos"),
}
_RATIOS = (
    Series(quantity="ratio_loss", label="loss", keys={"ratio": "loss"}, symbol="square", aside=-1),
    Series(quantity="ratio_chi_pos_unbiased", label="chi_pos_unbiased", keys={"ratio": "chi_pos_unbiased"}),
    Series(
        quantity="ratio_chi_pos",
        label="chi_pos of the mini-batch",
        keys={"ratio": "chi_pos"},
        symbol="circle-open",
        aside=1,
    ),
)


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of all families of these studies; None where none measures on held-out data. Raises as
    ``read_families``."""
    families = read_families(folders)
    runs = [run for family in families for run in family.runs]
    if not any(len(run.heldout) for run in runs):
        return None
    columns = [(family, family_points(family)) for family in families]
    ramp = SizeRamp(run.parameters for run in runs)
    panels = [
        *(_curves(family, points, name, ramp) for name in _PANELS for family, points in columns),
        *(
            size_panel(f"{family.label}: late ratio", points, _RATIOS, ramp, y="held-out / training", level=1.0)
            for family, points in columns
            if known(points, *RATIOS)
        ),
    ]
    return Chart(
        key="fig8",
        title="Training against held-out data (Figure 8)",
        shows=(
            "Loss, population position and mini-batch position on both, and the ratio of held-out to training over the "
            "last tenth of training, with 95% intervals; 1 is marked."
        ),
        legends=(
            size_legend(runs, ramp),
            curve_legend(*_pair("train_loss", "heldout_loss"), title="curves"),
            series_legend("ratio", "ratios", _RATIOS),
        ),
        panels=tuple(panels),
        words=tuple(_describe(family, points) for family, points in columns),
    )


def _curves(family: FamilyData, points: Sequence[Point], name: str, ramp: SizeRamp) -> Panel:
    quantities = _PANELS[name]
    span = limits(points, *quantities) if name.startswith("loss") else None
    return curve_panel(
        f"{family.label}: {name}", points, _pair(*quantities), ramp, y=name, span=span, powers=span is None
    )


def _pair(training: str, heldout: str) -> tuple[Curve, Curve]:
    return (
        Curve(quantity=training, label=_ON_TRAINING, key="training"),
        Curve(quantity=heldout, label=_ON_HELDOUT, key="heldout", dash="dash", has_band=False),
    )


def _describe(family: FamilyData, points: Sequence[Point]) -> str:
    if not known(points, *RATIOS):
        return f"{family.label}. No run with measurements on held-out data is finished: nothing is compared yet."
    names = {series.quantity: series.label for series in _RATIOS}
    return f"{family.label}. Held-out over training, last tenth (95% intervals): {at_ends(points, names, level=1.0)}"
