"""Figure 9: vision transformers in standard parametrisation and in muP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spectral_reach.figures.fig9_data import LATE, family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.points import known
from spectral_reach.figures.value_panel import limits
from spectral_reach.figures.words import late_positions
from spectral_reach.reports.chart import Chart
from spectral_reach.reports.charts.size_curves import (
    MINI_BATCH,
    UNBIASED,
    Curve,
    curve_legend,
    curve_panel,
    size_legend,
)
from spectral_reach.reports.charts.size_marks import MINI_BATCH_MARK, UNBIASED_MARK, size_panel
from spectral_reach.reports.colours import SizeRamp

_LOSS = Curve(quantity="train_loss", label="train loss", key="")
_LATE = tuple(replace(series, quantity=LATE + series.quantity) for series in (UNBIASED_MARK, MINI_BATCH_MARK))


def chart(folders: Sequence[Path]) -> Chart:
    """The chart of all families of these studies. Raises as ``read_families``."""
    families = read_families(folders)
    columns = [(family, family_points(family)) for family in families]
    runs = [run for family in families for run in family.runs]
    ramp = SizeRamp(run.parameters for run in runs)
    panels = [
        *(
            curve_panel(
                f"{family.label}: loss",
                points,
                (_LOSS,),
                ramp,
                y="train loss (nats)",
                powers=False,
                span=limits(points, "train_loss"),
            )
            for family, points in columns
        ),
        *(
            curve_panel(f"{family.label}: position", points, (MINI_BATCH, UNBIASED), ramp, y="spectral position")
            for family, points in columns
        ),
        *(
            size_panel(f"{family.label}: late position", points, _LATE, ramp, y="last tenth of training")
            for family, points in columns
            if known(points, *(each.quantity for each in _LATE))
        ),
    ]
    return Chart(
        key="fig9",
        title="Vision transformers, standard parametrisation and muP (Figure 9)",
        shows=(
            "Train loss and spectral position against compute, and the position of the last tenth of training against "
            "size with 95% intervals. Solid: chi_pos_unbiased, with a band of one standard error, faint where it "
            "exceeds the value; dotted: chi_pos of the mini-batch."
        ),
        legends=(size_legend(runs, ramp), curve_legend(UNBIASED, MINI_BATCH)),
        panels=tuple(panels),
        columns=min(3, max(2, len(columns))),
        words=tuple(f"{family.label}. {late_positions(points, LATE)}" for family, points in columns),
    )
