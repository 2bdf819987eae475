"""Figure 6: how Hutchinson's estimator of chi_net, and ours, converge on a trained Llama."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spectral_reach.figures.fig6_data import Point, points_of
from spectral_reach.reports.chart import Axis, Chart, Item, Legend, Panel
from spectral_reach.reports.charts.traces import band, hover, line, marks
from spectral_reach.reports.colours import BLUE, FAINT, INK, ORANGE, PINK, Colour, SizeRamp
from spectral_reach.studies.analysis.convergence import Convergence, Row, read_convergence
from spectral_reach.studies.analysis.convergence_report import describe
from spectral_reach.studies.analysis.numbers import size

# By estimator, and whether it measures some units only: as in the static figure.
_LOOKS: Mapping[tuple[str, bool], tuple[Colour, str]] = {
    ("batch", False): (INK, "circle"),
    ("one_for_all", False): (ORANGE, "square"),
    ("per_unit", False): (BLUE, "triangle-up"),
    ("per_unit", True): (PINK, "diamond"),
}
_DRAWS = Axis(title="draws averaged, M", powers=False)
_VARIATION = Axis(title="coefficient of variation", powers=False)


def chart(folders: Sequence[Path]) -> Chart | None:
    """The chart of the one study. Raises as ``read_convergence``."""
    result = read_convergence(folders[0])
    if result.main is None or not result.main.points:
        return None
    points = points_of(result)
    ramp = SizeRamp(row.parameters for row in result.along)
    sizes = sorted({row.parameters for row in result.along})
    return Chart(
        key="fig6",
        title="How estimators of chi_net converge (Figure 6)",
        shows=(
            "Averages of M draws and their coefficient of variation, against draws and against the seconds that they "
            "take. Averages of one M share no draw. Grey: one standard deviation of the averages; bars: 95% intervals; "
            "dashed: the fitted power."
        ),
        legends=(
            Legend(name="way", title="estimator", items=tuple(_item(row) for row in result.ways)),
            Legend(
                name="size",
                title="parameters",
                items=tuple(Item(key=str(p), label=size(p), colour=ramp(p), look="dot") for p in sizes),
            ),
        ),
        panels=(
            _averages(points),
            _spread(result, points, "Spread against draws", _DRAWS, lambda p: float(p.averaged)),
            _singles(points, ramp),
            _spread(
                result,
                points,
                "Spread against time",
                Axis(title="seconds of drawing", powers=False),
                lambda p: p.seconds,
            ),
        ),
        words=(describe(result),),
    )


def _key(row: Row | Point) -> str:
    return f"{row.way}-{row.units}"


def _item(row: Row) -> Item:
    return Item(key=_key(row), label=row.label, colour=_LOOKS[row.way, row.units > 0][0], look="dot")


def _averages(points: Sequence[Point]) -> Panel:
    means = [p for p in points if p.quantity == "mean"]
    averages = [p for p in points if p.quantity == "average"]
    meta = {"way": _key(means[0])}
    x = [float(p.averaged) for p in means]
    texts = [
        hover(f"M = {p.averaged}: mean {p.value:.5g}", f"one deviation {p.low:.5g} to {p.high:.5g}") for p in means
    ]
    single = [hover(f"one average of M = {p.averaged}: {p.value:.5g}") for p in averages]
    traces: list[dict[str, Any]] = [
        *band(x, [p.low for p in means], [p.high for p in means], colour=FAINT, meta=meta, floor=None),
        line(x, [p.value for p in means], texts, colour=INK, meta=meta, width=1.2, markers=False),
        marks(
            [float(p.averaged) for p in averages],
            [p.value for p in averages],
            single,
            colour=INK,
            meta=meta,
            size=4,
            opacity=0.4,
        ),
    ]
    return Panel(
        title="Hutchinson's estimate",
        x=_DRAWS,
        y=Axis(title="estimate of chi_net", log=False),
        traces=tuple(traces),
    )


def _spread(result: Convergence, points: Sequence[Point], title: str, x: Axis, of: Callable[[Point], float]) -> Panel:
    traces: list[dict[str, Any]] = []
    fit = [p for p in points if p.quantity == "fit"]
    if fit:
        texts = [hover(f"fitted power at M = {p.averaged}: {100 * p.value:.3g}%") for p in fit]
        meta = {"way": _key(fit[0])}
        traces.append(
            line([of(p) for p in fit], [p.value for p in fit], texts, colour=INK, meta=meta, dash="dash", markers=False)
        )
    for row in result.ways:
        curve = [p for p in points if p.quantity == "variation" and _key(p) == _key(row)]
        colour, symbol = _LOOKS[row.way, row.units > 0]
        texts = [
            hover(
                row.label,
                f"M = {p.averaged}, {p.seconds:.3g} s",
                f"variation {100 * p.value:.3g}%, 95%: {100 * p.low:.3g}% to {100 * p.high:.3g}%",
            )
            for p in curve
        ]
        traces.append(
            marks(
                [of(p) for p in curve],
                [p.value for p in curve],
                texts,
                colour=colour,
                meta={"way": _key(row)},
                symbol=symbol,
                bars=[(p.low, p.high) for p in curve],
            )
        )
    return Panel(title=title, x=x, y=_VARIATION, traces=tuple(traces))


def _singles(points: Sequence[Point], ramp: SizeRamp) -> Panel:
    singles = [p for p in points if p.quantity == "variation_of_one"]
    traces = []
    for parameters in sorted({p.parameters for p in singles}):
        curve = sorted((p for p in singles if p.parameters == parameters), key=lambda p: p.step)
        texts = [
            hover(
                f"{size(parameters)} parameters, step {p.step:,}",
                f"variation of one draw {100 * p.value:.3g}%, 95%: {100 * p.low:.3g}% to {100 * p.high:.3g}%",
            )
            for p in curve
        ]
        traces.append(
            marks(
                # On a logarithmic axis of step + 1, where initialisation has a place too.
                [p.step + 1.0 for p in curve],
                [p.value for p in curve],
                texts,
                colour=ramp(parameters),
                meta={"size": str(parameters)},
                bars=[(p.low, p.high) for p in curve],
            )
        )
    return Panel(
        title="One Hutchinson draw, in training",
        x=Axis(title="training step + 1", powers=False),
        y=_VARIATION,
        traces=tuple(traces),
    )
