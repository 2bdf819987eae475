"""Figure 1 of the paper: train loss, and below it spectral position, against compute; one column a family.

Above: the training loss of every size, averaged in windows of log compute, and the power law fitted to their frontier.
Below: the spectral position in every window of measurements. The solid line is ``chi_pos_unbiased``, the population's
position, with a band of one standard error; the dotted line is ``chi_pos`` of the mini-batch, raised by gradient
noise. A window whose unbiased value is negative, as noise makes some, or too small for the axis is marked by a triangle
at the lower edge and leaves a gap in the line; a band that reaches below the axis is cut off there. Of a size with
several seeds, curves are means over them and bands their standard errors, those of the losses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spectral_reach.figures.fig1_data import family_points
from spectral_reach.figures.folders import Begun, summarised_families
from spectral_reach.figures.loss_panel import draw_losses
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.points import COLUMNS, Point, as_row
from spectral_reach.figures.position_panel import draw_positions, has_positions_below, key_of_lines
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import SizeColours, style
from spectral_reach.studies.analysis.words import describe_family

NAME = "fig1"


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of all families of these studies as ``out/fig1.*``, with its data as CSV; returns the files.

    Unfinished runs are drawn as far as they are; a family of which no run has begun has no column.

    Raises:
        ValueError: an unknown format, no run has begun, or two families have one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    begun = summarised_families(studies)
    points = [family_points(family.data, family.summary.frontier) for family in begun]
    with style():
        files = save_figure(_figure(begun, points), out / NAME, formats)
    rows = [as_row(point) for column in points for point in column]
    return (*files, save_rows(rows, COLUMNS, out / f"{NAME}.csv"))


def _figure(begun: Sequence[Begun], points: Sequence[Sequence[Point]]) -> Figure:
    colours = SizeColours(run.parameters for family in begun for run in family.data.runs)
    columns = [
        Column(title=family.data.label, runs=family.data.runs, words=describe_family(family.summary))
        for family in begun
    ]
    everything = [point for column in points for point in column]
    key = key_of_lines(everything, triangles=any(map(has_positions_below, points)))
    page = Page(columns, (Row(), Row()), key, colours)
    for i, (family, column) in enumerate(zip(begun, points, strict=True)):
        lower = page.panel(i, 1)
        upper = page.panel(i, 0)
        entropy = family.data.runs[0].unigram_entropy
        draw_losses(upper, column, colours, family.summary.frontier, entropy=entropy)
        draw_positions(lower, column, colours)
        lower.set_xlim(upper.get_xlim())
        if i == 0:
            upper.set_ylabel("train loss (nats)")
            lower.set_ylabel("spectral position")
    return page.figure
