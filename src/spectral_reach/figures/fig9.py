"""Figure 9 of the paper: vision transformers in standard parametrisation and in muP, a column each, on the same axes.

From the top: the training loss and the spectral position against compute, as in Figure 1; below the position that
training ends with, averaged over its last tenth, against size, with 95% intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spectral_reach.figures.family_figure import save_family_figure
from spectral_reach.figures.fig9_data import LATE, family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.page import AXIS_GAP, Column, Page, Row
from spectral_reach.figures.points import Point
from spectral_reach.figures.position_panel import draw_positions, has_positions_below, key_of_lines
from spectral_reach.figures.size_panel import Series, draw_against_size, has_marks_below, key_of_series
from spectral_reach.figures.style import SizeColours
from spectral_reach.figures.value_panel import draw_values
from spectral_reach.figures.words import late_positions
from spectral_reach.studies.analysis.study_data import FamilyData

NAME = "fig9"

_HEIGHT = 1.7
_PARAMETRISATIONS = {"standard": "standard parametrisation", "mup": "muP"}
_SERIES = (
    Series(quantity=f"{LATE}chi_pos_unbiased", label="late chi_pos_unbiased", aside=-0.5),
    Series(quantity=f"{LATE}chi_pos", label="late chi_pos of the mini-batch", filled=False, aside=0.5),
)


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of all families of these studies as ``out/fig9.*``, with its data as CSV; returns the files.

    Raises:
        ValueError: an unknown format, no run has begun, or two families have one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    return save_family_figure(NAME, read_families(studies), family_points, _figure, out, formats)


def _figure(families: Sequence[FamilyData], points: Sequence[Sequence[Point]]) -> Figure:
    colours = SizeColours(run.parameters for family in families for run in family.runs)
    columns = [
        Column(title=_title(family), runs=family.runs, words=f"{family.label}. {late_positions(column, LATE)}")
        for family, column in zip(families, points, strict=True)
    ]
    everything = [point for column in points for point in column]
    # Columns share their axes, so what lies below one lies below all.
    triangles = has_positions_below(everything) or has_marks_below(everything, _SERIES)
    key = [*key_of_lines(everything, triangles=triangles), *key_of_series(_SERIES)]
    page = Page(columns, (Row(height=_HEIGHT), Row(height=_HEIGHT), Row(height=_HEIGHT, gap=AXIS_GAP)), key, colours)
    for i, column in enumerate(points):
        loss, position, late = (page.panel(i, row) for row in range(3))
        draw_values(loss, column, colours, {"train_loss": {}}, labelled=False, beside=everything)
        draw_positions(position, column, colours, beside=everything)
        draw_against_size(late, column, colours, _SERIES, beside=everything)
        if i == 0:
            for panel, name in ((loss, "train loss (nats)"), (position, "spectral position"), (late, "late position")):
                panel.set_ylabel(name)
        page.align((loss, position))
    return page.figure


def _title(family: FamilyData) -> str:
    """The parametrisation, if the models say one; else the family's label."""
    parametrisation = family.runs[0].config["model"].get("parametrisation")
    return f"ViTs in {_PARAMETRISATIONS[parametrisation]}" if parametrisation in _PARAMETRISATIONS else family.label
