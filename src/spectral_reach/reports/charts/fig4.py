"""Figure 4: the spectral position of linear probes on random backbones over that on pre-trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spectral_reach.figures.fig4 import title_of
from spectral_reach.figures.fig4_data import POSITIONS, PRETRAINED, RANDOM, RATIO, set_points
from spectral_reach.figures.folders import read_probes
from spectral_reach.figures.points import Point, known
from spectral_reach.figures.words import at_ends
from spectral_reach.reports.chart import Chart, Item, Legend
from spectral_reach.reports.charts.size_curves import size_legend
from spectral_reach.reports.charts.size_marks import MINI_BATCH_MARK, UNBIASED_MARK, Series, series_legend, size_panel
from spectral_reach.reports.colours import FAINT, SizeRamp

_BACKBONES = {RANDOM: ("random backbone", "square"), PRETRAINED: ("pre-trained backbone", "circle")}
_ASIDE = dict(zip(POSITIONS, (-0.5, 0.5), strict=True))
_LATE = tuple(
    Series(
        quantity=backbone + position,
        label=f"{position}, {label}",
        keys={"backbone": backbone, "quantity": position},
        symbol=symbol if position == "chi_pos_unbiased" else f"{symbol}-open",
        aside=aside,
    )
    for backbone, (label, symbol) in _BACKBONES.items()
    for position, aside in _ASIDE.items()
)
_RATIOS = tuple(
    Series(
        quantity=RATIO + position,
        label=f"{position}, random / pre-trained",
        keys={"quantity": position},
        symbol="diamond" if position == "chi_pos_unbiased" else "diamond-open",
        aside=aside,
    )
    for position, aside in _ASIDE.items()
)


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the probes of these studies; None where none is finished. Raises as ``read_probes``."""
    columns = [(title_of(each), set_points(each), each) for each in read_probes(folders)]
    if not any(points for _, points, _ in columns):
        return None
    runs = [run for _, _, each in columns for family in each.families for run in family.runs if run.trained != "all"]
    ramp = SizeRamp(run.parameters for run in runs)
    panels = [
        *(
            size_panel(f"{title}: late position", points, _LATE, ramp, y="last tenth of training")
            for title, points, _ in columns
            if points
        ),
        *(
            size_panel(f"{title}: ratio", points, _RATIOS, ramp, y="random / pre-trained", level=1.0)
            for title, points, _ in columns
            if known(points, *(each.quantity for each in _RATIOS))
        ),
    ]
    backbones = tuple(
        Item(key=key, label=label, colour=FAINT, look="dot" if symbol == "circle" else "square")
        for key, (label, symbol) in _BACKBONES.items()
    )
    return Chart(
        key="fig4",
        title="Linear probes on random and on pre-trained backbones (Figure 4)",
        shows=(
            "Spectral position averaged over the last tenth of training against model size, and the ratio of random to "
            "pre-trained. Bars are 95% intervals; 1 is marked."
        ),
        legends=(
            size_legend(runs, ramp),
            Legend(name="backbone", title="late position", items=backbones),
            series_legend("quantity", "measure", (UNBIASED_MARK, MINI_BATCH_MARK)),
        ),
        panels=tuple(panels),
        words=tuple(_describe(title, points) for title, points, _ in columns),
    )


def _describe(title: str, points: Sequence[Point]) -> str:
    names = {f"{RATIO}chi_pos_unbiased": "chi_pos_unbiased", f"{RATIO}chi_pos": "mini-batch chi_pos"}
    if not known(points, *names):
        return f"{title}. No size has finished runs of both backbones: there is no ratio yet."
    return f"{title}. Random over pre-trained (95% intervals): {at_ends(points, names, level=1.0)}"
