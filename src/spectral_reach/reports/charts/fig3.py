"""Figure 3: random features on power-law data, measured and predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.fig3_data import Point, points_of
from spectral_reach.reports.chart import Axis, Chart, Item, Legend, Panel
from spectral_reach.reports.charts.thinned import evenly_in_log
from spectral_reach.reports.charts.traces import hover, line, marks, quantity_text
from spectral_reach.reports.colours import BLUE, FAINT, INK, ORANGE, Colour, evenly
from spectral_reach.studies.analysis.random_features import read_random_features
from spectral_reach.studies.analysis.random_features_report import describe

MOST_MODES = 200

_EXPONENT = "exponent β of the covariance"
_SPECTRA = {"p_limit": "arc-cosine kernel", "p_network": "eNTK"}


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the one study. Raises as ``read_random_features``."""
    result = read_random_features(folders[0])
    if not result.exponents:
        return None
    points = [point for each in result.exponents for point in points_of(each)]
    exponents = [each.exponent for each in result.exponents]
    colours = dict(zip(exponents, evenly(len(exponents)), strict=True))
    return Chart(
        key="fig3",
        title="Random features on power-law data (Figure 3)",
        shows=(
            "Spectra of the data's covariance and of the kernels, and the components at initialisation beside what "
            "theory predicts (dashed). Bars are one standard error over draws of inputs, features and teachers."
        ),
        legends=(_exponents(colours), _quantities()),
        panels=(
            _spectra("Covariance", points, ("covariance",), colours, "mode k of the covariance"),
            _spectra("Kernels", points, tuple(_SPECTRA), colours, "mode k of the kernel"),
            _components("chi_loss and chi_net", points, ("chi_loss", "chi_net"), log=False),
            _components("chi_pos", points, ("chi_pos",), log=True),
        ),
        words=(describe(result),),
    )


def _exponents(colours: Mapping[float, Colour]) -> Legend:
    items = tuple(Item(key=str(e), label=f"{e:g}", colour=colour) for e, colour in colours.items())
    return Legend(name="exponent", title="β", items=items)


def _quantities() -> Legend:
    items = (
        Item(key="p_limit", label="arc-cosine kernel", colour=FAINT),
        Item(key="p_network", label="eNTK", colour=FAINT, look="dot"),
        Item(key="chi_loss", label="chi_loss", colour=ORANGE, look="dot"),
        Item(key="chi_net", label="chi_net", colour=BLUE, look="dot"),
        Item(key="chi_pos", label="chi_pos", colour=INK, look="dot"),
    )
    return Legend(name="quantity", title="show", items=items)


def _spectra(
    title: str, points: Sequence[Point], quantities: Sequence[str], colours: Mapping[float, Colour], x: str
) -> Panel:
    traces: list[dict[str, Any]] = []
    for quantity in quantities:
        for exponent, colour in colours.items():
            curve = [p for p in points if p.quantity == quantity and p.exponent == exponent and p.value > 0]
            curve = evenly_in_log(curve, 24 if quantity == "p_network" else MOST_MODES)
            # The covariance has a panel of its own, and no button.
            meta = {"exponent": str(exponent)} | ({"quantity": quantity} if quantity in _SPECTRA else {})
            k = [float(p.k or 0) for p in curve]
            texts = [
                hover(f"{_SPECTRA.get(quantity, 'covariance')}, β = {exponent:g}", f"mode {p.k}: {p.value:.3g}")
                for p in curve
            ]
            values = [p.value for p in curve]
            if quantity == "p_network":
                traces.append(marks(k, values, texts, colour=colour, meta=meta, symbol="circle-open"))
            else:
                traces.append(line(k, values, texts, colour=colour, meta=meta, markers=False))
    return Panel(
        title=title, x=Axis(title=x, powers=False), y=Axis(title="normalised eigenvalue"), traces=tuple(traces)
    )


def _components(title: str, points: Sequence[Point], quantities: Sequence[str], *, log: bool) -> Panel:
    colours = {"chi_loss": ORANGE, "chi_net": BLUE, "chi_pos": INK}
    traces: list[dict[str, Any]] = []
    for quantity in quantities:
        measured = [p for p in points if p.quantity == quantity]
        x, value = [p.exponent for p in measured], [p.value for p in measured]
        texts = [
            hover(
                f"β = {p.exponent:g}, {p.draws} draws",
                quantity_text(quantity, p.value, p.stderr),
                f"predicted {p.predicted:.4g}",
            )
            for p in measured
        ]
        errors = [0.0 if math.isnan(p.stderr) else p.stderr for p in measured]
        bars = [(v - e, v + e) for v, e in zip(value, errors, strict=True)]
        if quantity == quantities[0]:
            predicted = [p.predicted for p in measured]
            traces.append(line(x, predicted, texts, colour=FAINT, meta={}, dash="dash", width=1.3, markers=False))
        meta = {"quantity": quantity}
        traces.append(marks(x, value, texts, colour=colours[quantity], meta=meta, bars=bars))
    return Panel(
        title=title,
        x=Axis(title=_EXPONENT, log=False),
        y=Axis(title=" and ".join(quantities), log=log, powers=False),
        traces=tuple(traces),
    )
