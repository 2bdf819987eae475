"""Figure 5 of the paper: chi_net against compute, in full training and in probing on a random backbone; by size.

A column a data set. Above: chi_net, whose level depends on what is trained: a probe's is that of its readout. Below:
chi_net over that of the first window of measurements. Solid: everything is trained. Dashed: the readout alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_reach.figures.curves import DASHED, draw_band, draw_line, key_band, key_line
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.fig4 import title_of
from spectral_reach.figures.fig5_data import CHI_NET, GROWTH, set_points
from spectral_reach.figures.folders import read_probes
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.points import COLUMNS, Point, as_row, known, of_sizes
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import FAINT, SizeColours, log_compute_axis, log_plain_axis, style
from spectral_reach.figures.value_panel import limits
from spectral_reach.figures.words import factor, joined
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.probe_sets import ProbeSet

NAME = "fig5"


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of the probes of these studies as ``out/fig5.*``, with its data as CSV; returns the files.

    Raises:
        NothingToDrawError: no run has begun, or no probe among them.
        ValueError: an unknown format, or two families are of one kind.
        ForeignFolderError: a folder is not a study of this library or has no probes, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    sets = read_probes(studies)
    if not sets:
        raise NothingToDrawError(
            f"no linear probe of {', '.join(map(str, studies))} has begun: got nothing to compare; run it further."
        )
    points = [set_points(each) for each in sets]
    with style():
        files = save_figure(_figure(sets, points), out / NAME, formats)
    rows = [as_row(point) for column in points for point in column]
    return (*files, save_rows(rows, COLUMNS, out / f"{NAME}.csv"))


def _figure(sets: Sequence[ProbeSet], points: Sequence[Sequence[Point]]) -> Figure:
    shown = [[run for family in (s.full, s.random) if family is not None for run in family.runs] for s in sets]
    colours = SizeColours(run.parameters for runs in shown for run in runs)
    columns = [
        Column(title=title_of(each), runs=runs, words=_describe(each, column))
        for each, runs, column in zip(sets, shown, points, strict=True)
    ]
    key = [
        key_line("everything trained"),
        key_line("probing on a random backbone", **DASHED),
        key_band(known([point for column in points for point in column], CHI_NET)),
    ]
    page = Page(columns, (Row(), Row()), key, colours)
    for i, (each, column) in enumerate(zip(sets, points, strict=True)):
        above, below = page.panel(i, 0), page.panel(i, 1)
        log_plain_axis(above, *limits(column, CHI_NET))
        _draw(above, each, known(column, CHI_NET), colours, labelled=False)
        low, high = limits(column, GROWTH)
        log_plain_axis(below, min(low, 0.9), max(high, 1.1))
        _draw(below, each, known(column, GROWTH), colours, labelled=True)
        below.axhline(1, color=FAINT, linewidth=0.7, linestyle=(0, (1, 2)), zorder=0)
        if i == 0:
            above.set_ylabel("chi_net")
            below.set_ylabel("chi_net over its first window")
        page.align((above, below))
    return page.figure


def _draw(axes: Axes, probes: ProbeSet, points: Sequence[Point], colours: SizeColours, *, labelled: bool) -> None:
    log_compute_axis(axes, labelled=labelled)
    floor = axes.get_ylim()[0]
    for family, look in ((probes.full, {}), (probes.random, DASHED)):
        of_family = [] if family is None else [point for point in points if point.family == family.key]
        for parameters, curve in of_sizes(of_family):
            draw_band(axes, curve, floor, colours(parameters))
            draw_line(axes, curve, floor, colours(parameters), look)


def _describe(probes: ProbeSet, points: Sequence[Point]) -> str:
    """The growth of the smallest and the largest size in either way of training, and what is missing."""
    clauses = []
    for family, name in ((probes.full, "full training"), (probes.random, "probing on a random backbone")):
        sizes = of_sizes([] if family is None else [p for p in known(points, GROWTH) if p.family == family.key])
        if not sizes:
            clauses.append(f"of {name} there is no run yet")
            continue
        ends = sizes if len(sizes) == 1 else (sizes[0], sizes[-1])
        by_size = [f"{factor(curve[-1].value)} at {size(parameters)}" for parameters, curve in ends]
        clauses.append(f"{name} multiplies chi_net by {joined(by_size)}")
    return f"From its first window to its last, {joined(clauses)} parameters."
