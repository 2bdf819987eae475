"""Figure 7 of the paper: the whole decomposition against compute, delta_loss = chi_loss * chi_net * chi_pos.

A column a family, a panel a component. chi_pos and delta_loss are drawn twice: solid the population's, corrected for
gradient noise, with a band of one standard error, and dotted that of the mini-batch (``position_panel``). The paper's
panels are not at hand; these are what the scaling studies show of every component.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spectral_reach.figures.curves import DOTTED, key_band, key_below, key_line
from spectral_reach.figures.family_figure import save_family_figure
from spectral_reach.figures.fig7_data import family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.points import Point, known
from spectral_reach.figures.position_panel import draw_positions, has_positions_below
from spectral_reach.figures.style import SizeColours
from spectral_reach.figures.value_panel import draw_values
from spectral_reach.figures.words import along_training
from spectral_reach.studies.analysis.study_data import FamilyData

NAME = "fig7"

_HEIGHT = 1.45
_COMPONENTS = ("chi_loss", "chi_net", "chi_pos", "delta_loss")
_NOISY = ("chi_pos", "delta_loss")


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of all families of these studies as ``out/fig7.*``, with its data as CSV; returns the files.

    Raises:
        ValueError: an unknown format, no run has begun, or two families have one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    return save_family_figure(NAME, read_families(studies), family_points, _figure, out, formats)


def _figure(families: Sequence[FamilyData], points: Sequence[Sequence[Point]]) -> Figure:
    colours = SizeColours(run.parameters for family in families for run in family.runs)
    columns = [
        Column(title=family.label, runs=family.runs, words=_describe(family, column))
        for family, column in zip(families, points, strict=True)
    ]
    everything = [point for column in points for point in column]
    key = [
        key_line("of the population (chi_pos_unbiased, delta_loss_unbiased)", marker="o", markersize=2),
        key_line("of the mini-batch (chi_pos, delta_loss)", **DOTTED),
        key_band(known(everything, "chi_pos_unbiased")),
        *key_below(
            is_drawn=any(
                has_positions_below(column, unbiased=f"{name}_unbiased", mini_batch=name)
                for column in points
                for name in _NOISY
            )
        ),
    ]
    page = Page(columns, (Row(height=_HEIGHT),) * len(_COMPONENTS), key, colours)
    for i, column in enumerate(points):
        axes = []
        for row, name in enumerate(_COMPONENTS):
            panel = page.panel(i, row)
            labelled = row == len(_COMPONENTS) - 1
            if name in _NOISY:
                draw_positions(panel, column, colours, unbiased=f"{name}_unbiased", mini_batch=name, labelled=labelled)
            else:
                draw_values(panel, column, colours, {name: {}}, labelled=labelled)
            if i == 0:
                panel.set_ylabel(name)
            axes.append(panel)
        page.align(axes)
    return page.figure


def _describe(family: FamilyData, points: Sequence[Point]) -> str:
    names = ("chi_loss", "chi_net", "chi_pos_unbiased", "delta_loss_unbiased")
    return (
        f"{family.label}. delta_loss = chi_loss·chi_net·chi_pos: on logarithmic axes the changes of the three add up "
        f"to that of the product. {along_training(points, names)}"
    )
