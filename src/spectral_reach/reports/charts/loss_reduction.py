"""Where in the spectrum of the full output space the loss is reduced, along training and by size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.loss_reduction_data import Point, points_of
from spectral_reach.reports.chart import Axis, Chart, Item, Legend, Panel
from spectral_reach.reports.charts.traces import band, hover, line, marks
from spectral_reach.reports.colours import FAINT, INK, Colour, SizeRamp, evenly
from spectral_reach.studies.analysis.loss_reduction_report import STUDY, describe
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.spectra import read_spectra

_EIGENVALUE = Axis(title="normalised eigenvalue p")


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the one study. Raises as ``read_spectra``."""
    result = read_spectra(folders[0], STUDY)
    if not result.measured:
        return None
    points = points_of(result)
    steps = result.steps_of(result.sizes[-1])
    colours = dict(zip(steps, evenly(len(steps)), strict=True))
    ramp = SizeRamp(result.sizes)
    return Chart(
        key="loss-reduction",
        title="Where in the spectrum the loss is reduced",
        shows=(
            "Cumulative loss reduction of the largest model at every snapshot; medians of every size along training, "
            "with what is certain of them (bars) and chi_pos of the largest (dotted); eigenvalues above p, with one "
            "standard error over random vectors; and what the Lanczos steps prove of the median."
        ),
        legends=(
            Legend(
                name="step",
                title="training step",
                items=tuple(Item(key=str(s), label=f"{s:,}", colour=colour) for s, colour in colours.items()),
            ),
            Legend(
                name="size",
                title="parameters",
                items=tuple(Item(key=str(p), label=size(p), colour=ramp(p)) for p in result.sizes),
            ),
        ),
        panels=(
            _cumulative(points, colours),
            _along_training(points, ramp),
            _density(points),
            _narrowing(points),
        ),
        words=(describe(result),),
    )


def _cumulative(points: Sequence[Point], colours: dict[int, Colour]) -> Panel:
    traces = []
    for step, colour in colours.items():
        curve = [p for p in points if p.quantity == "cumulative" and p.step == step]
        texts = [hover(f"step {step:,}", f"{100 * p.value:.1f}% at and below p = {p.x:.3g}") for p in curve]
        trace = line(
            [p.x for p in curve],
            [p.value for p in curve],
            texts,
            colour=colour,
            meta={"step": str(step)},
            markers=False,
        )
        trace["line"]["shape"] = "hv"
        traces.append(trace)
    return Panel(
        title="Loss reduction at and below p",
        x=_EIGENVALUE,
        y=Axis(title="share of the loss reduction", log=False, span=(0.0, 1.02)),
        traces=tuple(traces),
    )


def _along_training(points: Sequence[Point], ramp: SizeRamp) -> Panel:
    traces: list[dict[str, Any]] = []
    sizes = sorted({p.parameters for p in points})
    for parameters in sizes:
        colour, meta = ramp(parameters), {"size": str(parameters)}
        median = [p for p in points if p.parameters == parameters and p.quantity == "quantile" and p.x == 0.5]
        x = [p.step + 1.0 for p in median]
        texts = [
            hover(
                f"{size(parameters)} parameters, step {p.step:,}",
                f"median of the loss reduction at p = {p.value:.3g}",
                f"certain: {p.low:.3g} to {p.high:.3g}",
            )
            for p in median
        ]
        bars = [(p.low, p.high if math.isfinite(p.high) else 1.0) for p in median]
        traces.append(line(x, [p.value for p in median], texts, colour=colour, meta=meta, markers=False))
        traces.append(marks(x, [p.value for p in median], texts, colour=colour, meta=meta, bars=bars))
    position = [p for p in points if p.quantity == "chi_pos" and p.parameters == sizes[-1]]
    texts = [hover(f"step {p.step:,}", f"chi_pos = {p.value:.3g}") for p in position]
    x, y = [p.step + 1.0 for p in position], [p.value for p in position]
    traces.append(line(x, y, texts, colour=FAINT, meta={"size": str(sizes[-1])}, dash="dot", markers=False))
    return Panel(
        title="Median along training",
        x=Axis(title="training step + 1", powers=False),
        y=Axis(title="median of the loss reduction, p"),
        traces=tuple(traces),
    )


def _density(points: Sequence[Point]) -> Panel:
    curve = [p for p in points if p.quantity == "modes_above" and p.value > 0]
    x, texts = [p.x for p in curve], [hover(f"{p.value:.4g} eigenvalues above p = {p.x:.3g}") for p in curve]
    floor = max(1.0, min((p.value for p in curve), default=1.0)) / 3
    traces = band(x, [p.low for p in curve], [p.high for p in curve], colour=INK, meta={}, floor=floor)
    if curve:
        traces.append(line(x, [p.value for p in curve], texts, colour=INK, meta={}, markers=False))
    return Panel(title="Eigenvalues above p", x=_EIGENVALUE, y=Axis(title="eigenvalues above"), traces=tuple(traces))


def _narrowing(points: Sequence[Point]) -> Panel:
    proven = [p for p in points if p.quantity == "narrowing" and p.low > 0 and math.isfinite(p.high)]
    x = [p.x for p in proven]
    low, high = [p.low for p in proven], [p.high for p in proven]
    texts = [hover(f"after {p.x:g} steps", f"certain: {p.low:.3g} to {p.high:.3g}") for p in proven]
    traces = band(x, low, high, colour=INK, meta={}, floor=None)
    if proven:
        traces += [line(x, end, texts, colour=INK, meta={}, width=1.2, markers=False) for end in (low, high)]
    return Panel(
        title="What Lanczos steps prove",
        x=Axis(title="Lanczos steps", powers=False),
        y=Axis(title="median is certain to be, p"),
        traces=tuple(traces),
    )
