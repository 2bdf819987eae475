"""Figure 12: the empirical kernel's spectrum and the loss gradient on it, before and after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.fig12_data import Point, points_of
from spectral_reach.reports.chart import Axis, Chart, Item, Legend, Panel
from spectral_reach.reports.charts.thinned import evenly_in_log
from spectral_reach.reports.charts.traces import band, hover, line
from spectral_reach.reports.colours import Colour, evenly
from spectral_reach.studies.analysis.spectra import read_spectra
from spectral_reach.studies.analysis.spectra_report import STUDY, describe

MOST_MODES = 300
DECADES = 9
"""What a panel shows at most, as in the static figure."""

_PANELS = {
    "p": ("Normalised eigenvalues", "p<sub>k</sub>"),
    "gamma2": ("Shares of the loss gradient", "γ<sub>k</sub><sup>2</sup>"),
    "product": ("Their product, whose sum is chi_pos", "γ<sub>k</sub><sup>2</sup> p<sub>k</sub>"),
}

_NAMES = {"p": "p_k", "gamma2": "gamma_k^2", "product": "gamma_k^2 p_k"}


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the one study. Raises as ``read_spectra``."""
    result = read_spectra(folders[0], STUDY)
    if not result.measured:
        return None
    points = points_of(result)
    steps = sorted({point.step for point in points})
    colours = dict(zip(steps, evenly(len(steps)), strict=True))
    return Chart(
        key="fig12",
        title="The kernel's spectrum and the loss gradient on it (Figure 12)",
        shows=(
            "Of the largest model, at every snapshot: means over sequences, of the shares and the product also over "
            "bins of equal width in log k; bands are one standard error over sequences."
        ),
        legends=(
            Legend(
                name="step",
                title="training step",
                items=tuple(Item(key=str(s), label=f"{s:,}", colour=colour) for s, colour in colours.items()),
            ),
        ),
        columns=3,
        panels=tuple(_panel(quantity, points, colours) for quantity in _PANELS),
        words=(describe(result),),
    )


def _panel(quantity: str, points: Sequence[Point], colours: dict[int, Colour]) -> Panel:
    title, name = _PANELS[quantity]
    of_quantity = [p for p in points if p.quantity == quantity and p.value > 0]
    top = max((p.value for p in of_quantity), default=1.0)
    floor = top * 10.0**-DECADES
    traces: list[dict[str, Any]] = []
    for step, colour in colours.items():
        curve = evenly_in_log([p for p in of_quantity if p.step == step and p.value > floor], MOST_MODES)
        meta = {"step": str(step)}
        x, y = [p.k for p in curve], [p.value for p in curve]
        texts = [
            hover(
                f"step {step:,}, mode {p.k:.4g}",
                f"{_NAMES[quantity]} = {p.value:.3g}{_error(p)}",
                f"{p.sequences} sequences",
            )
            for p in curve
        ]
        low, high = [p.value - p.stderr for p in curve], [p.value + p.stderr for p in curve]
        traces += band(x, low, high, colour=colour, meta=meta, floor=floor)
        traces.append(line(x, y, texts, colour=colour, meta=meta, markers=False))
    return Panel(title=title, x=Axis(title="mode k", powers=False), y=Axis(title=name), traces=tuple(traces))


def _error(point: Point) -> str:
    return "" if math.isnan(point.stderr) else f" ± {point.stderr:.1g}"
