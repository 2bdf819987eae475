"""Figure 8 of the paper: training against held-out data, loss and spectral position; a column a family.

From the top: the loss, the population's position (``chi_pos_unbiased``) and that of mini-batches (``chi_pos``) against
compute, solid on training data and dashed on held-out data; below the ratio of held-out to training against size, over
the last tenth of training, with 95% intervals. The paper's panels are not at hand; these are what the scaling studies
show of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_reach.figures.curves import (
    DASHED,
    any_below,
    ceiling_of,
    draw_band,
    draw_line,
    floor_of,
    key_band,
    key_below,
    key_line,
)
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.family_figure import save_family_figure
from spectral_reach.figures.fig8_data import HELDOUT, POSITIONS, RATIOS, family_points
from spectral_reach.figures.folders import read_families
from spectral_reach.figures.page import AXIS_GAP, Column, Page, Row
from spectral_reach.figures.points import Point, known, of_sizes
from spectral_reach.figures.size_panel import Series, draw_against_size, has_marks_below, key_of_series
from spectral_reach.figures.style import SizeColours, log_axis, log_compute_axis
from spectral_reach.figures.value_panel import draw_values
from spectral_reach.figures.words import at_ends
from spectral_reach.studies.analysis.study_data import FamilyData

NAME = "fig8"

_HEIGHT = 1.55
_SERIES = (
    Series(quantity="ratio_loss", label="loss", marker="s", aside=-1),
    Series(quantity="ratio_chi_pos_unbiased", label="chi_pos_unbiased"),
    Series(quantity="ratio_chi_pos", label="chi_pos of the mini-batch", filled=False, aside=1),
)


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of all families of these studies as ``out/fig8.*``, with its data as CSV; returns the files.

    Raises:
        NothingToDrawError: no run has begun, or nothing was measured on held-out data.
        ValueError: an unknown format, or two families have one name.
        ForeignFolderError: a folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    families = read_families(studies)
    if not any(len(run.heldout) for family in families for run in family.runs):
        raise NothingToDrawError(
            f"no run of {', '.join(map(str, studies))} has measured spectral position on held-out data: got nothing to "
            "compare; run a study whose measurement has heldout_units, such as scaling-text."
        )
    return save_family_figure(NAME, families, family_points, _figure, out, formats)


def _figure(families: Sequence[FamilyData], points: Sequence[Sequence[Point]]) -> Figure:
    colours = SizeColours(run.parameters for family in families for run in family.runs)
    columns = [
        Column(title=family.label, runs=family.runs, words=_describe(family, column))
        for family, column in zip(families, points, strict=True)
    ]
    everything = [point for column in points for point in column]
    key = [
        key_line("on training data"),
        key_line("on held-out data", **DASHED),
        key_band(known(everything, "chi_pos_unbiased")),
        *key_below(is_drawn=any(map(_has_values_below, points))),
        *key_of_series(_SERIES),
    ]
    page = Page(
        columns, (Row(height=_HEIGHT), Row(height=_HEIGHT), Row(height=_HEIGHT), Row(gap=AXIS_GAP)), key, colours
    )
    for i, column in enumerate(points):
        loss, unbiased, mini_batch = (page.panel(i, row) for row in range(3))
        draw_values(loss, column, colours, {"train_loss": {}, "heldout_loss": DASHED}, labelled=False)
        _draw_positions(unbiased, column, colours, "chi_pos_unbiased", labelled=False)
        _draw_positions(mini_batch, column, colours, "chi_pos", labelled=True)
        ratios = page.panel(i, 3)
        draw_against_size(ratios, column, colours, _SERIES, level=1.0)
        if i == 0:
            names = ("loss (nats)", "chi_pos_unbiased", "chi_pos of the mini-batch", "late: held-out / training")
            for panel, name in zip((loss, unbiased, mini_batch, ratios), names, strict=True):
                panel.set_ylabel(name)
        page.align((loss, unbiased, mini_batch))
    return page.figure


def _has_values_below(points: Sequence[Point]) -> bool:
    positions = (known(points, name, HELDOUT + name) for name in POSITIONS)
    return any(any_below(each, floor_of(each)) for each in positions) or has_marks_below(points, _SERIES, level=1.0)


def _draw_positions(
    axes: Axes, points: Sequence[Point], colours: SizeColours, quantity: str, *, labelled: bool
) -> None:
    log_compute_axis(axes, labelled=labelled)
    heldout = HELDOUT + quantity
    positions = known(points, quantity, heldout)
    floor = floor_of(positions)
    log_axis(axes, floor, ceiling_of(positions, floor))
    for size, of_size in of_sizes(positions):
        draw_band(axes, known(of_size, quantity), floor, colours(size))
        draw_line(axes, known(of_size, quantity), floor, colours(size), {})
        draw_line(axes, known(of_size, heldout), floor, colours(size), DASHED)


def _describe(family: FamilyData, points: Sequence[Point]) -> str:
    """The ratios of the smallest and the largest size, and how many sizes' intervals hold 1."""
    if not known(points, *RATIOS):
        return f"{family.label}. No run with measurements on held-out data is finished: nothing is compared yet."
    names = {"ratio_loss": "loss", "ratio_chi_pos_unbiased": "chi_pos_unbiased", "ratio_chi_pos": "mini-batch chi_pos"}
    return f"{family.label}. Held-out over training, last tenth (95% intervals): {at_ends(points, names, level=1.0)}"
