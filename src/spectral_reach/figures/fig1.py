"""Figure 1 of the paper: train loss, and below it spectral position, against compute; one column a family.

Above: the training loss of every size, averaged in windows of log compute, and the power law fitted to their frontier.
Below: the spectral position in every window of measurements. The solid line is ``chi_pos_unbiased``, the population's
position, with a band of one standard error; the dotted line is ``chi_pos`` of the mini-batch, raised by gradient
noise. A window whose unbiased value is negative, as noise makes some, or too small for the axis is marked by a triangle
at the lower edge and leaves a gap in the line; a band that reaches below the axis is cut off there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_reach.figures import caption
from spectral_reach.figures.fig1_data import COLUMNS, Point, as_row, family_points
from spectral_reach.figures.loss_panel import draw_losses
from spectral_reach.figures.position_panel import draw_positions, key_of_lines
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import SMALL_SIZE, TITLE_SIZE, SizeColours, style
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.study_data import FamilyData, read_study
from spectral_reach.studies.analysis.summary import FamilySummary, summarise
from spectral_reach.studies.analysis.words import describe_family

NAME = "fig1"

# Inches.
COLUMN = 3.35
LEFT, RIGHT, GAP = 0.62, 0.12, 0.62
PANEL_HEIGHT, PANEL_GAP = 1.95, 0.14
TITLE_LINE, TITLE, SIZES_ROW = 0.19, 0.44, 0.15
AXIS_LABEL, KEY_ROW = 0.45, 0.17
BOTTOM = 0.12
SIZES_PER_ROW = 6


def draw(study: Path | str, out: Path | str, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of a study folder as ``out/fig1.*``, with its data as ``out/fig1.csv``; returns the files.

    Unfinished runs are drawn as far as they are; a family of which no run has begun has no column.

    Raises:
        ValueError: an unknown format, or no run has begun.
        ForeignFolderError: the folder is not a study of this library, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    data = read_study(study)
    begun = [
        (family, words)
        for family, words in zip(data.families, summarise(data).families, strict=True)
        if any(len(run.losses) for run in family.runs)
    ]
    if not begun:
        raise ValueError(f"no run of {study} has recorded a loss: got nothing to draw; run the study first.")
    points = [family_points(family, words.frontier) for family, words in begun]
    with style():
        figure = _figure(begun, points)
        files = save_figure(figure, Path(out) / NAME, formats)
    rows = [as_row(point) for column in points for point in column]
    return (*files, save_rows(rows, COLUMNS, Path(out) / f"{NAME}.csv"))


def _figure(begun: list[tuple[FamilyData, FamilySummary]], points: list[tuple[Point, ...]]) -> Figure:
    texts = [caption.wrap(describe_family(words), COLUMN) for _, words in begun]
    n_sizes = max(len({run.parameters for run in family.runs}) for family, _ in begun)
    head = TITLE + SIZES_ROW * math.ceil(n_sizes / SIZES_PER_ROW)
    key_lines = key_of_lines([point for column in points for point in column])
    key_columns = 1 if len(begun) == 1 else len(key_lines)
    key = AXIS_LABEL + KEY_ROW * math.ceil(len(key_lines) / key_columns)
    foot = key + max(caption.height(lines) for lines in texts) + BOTTOM
    width = LEFT + len(begun) * COLUMN + (len(begun) - 1) * GAP + RIGHT
    height = head + 2 * PANEL_HEIGHT + PANEL_GAP + foot
    figure = Figure(figsize=(width, height))
    colours = SizeColours(run.parameters for family, _ in begun for run in family.runs)
    for i, ((family, words), column) in enumerate(zip(begun, points, strict=True)):
        left = LEFT + i * (COLUMN + GAP)

        def panel(bottom: float, left: float = left) -> Axes:
            return figure.add_axes((left / width, bottom / height, COLUMN / width, PANEL_HEIGHT / height))

        lower = panel(foot)
        upper = panel(foot + PANEL_HEIGHT + PANEL_GAP)
        draw_losses(upper, column, colours, words.frontier, entropy=family.runs[0].unigram_entropy)
        draw_positions(lower, column, colours)
        lower.set_xlim(upper.get_xlim())
        if i == 0:
            upper.set_ylabel("train loss (nats)")
            lower.set_ylabel("spectral position")
        top = height - 0.08
        figure.text(left / width, top / height, family.label, fontsize=TITLE_SIZE, weight="bold", va="top")
        _sizes(figure, family, colours, x=left / width, y=(top - TITLE_LINE) / height)
        caption.write(figure, texts[i], left=left, top=foot - key)
    middle = (LEFT + (width - LEFT - RIGHT) / 2) / width
    figure.legend(
        handles=key_lines,
        loc="lower center",
        bbox_to_anchor=(middle, (foot - key + 0.06) / height),
        ncols=key_columns,
        columnspacing=1.5,
        borderaxespad=0,
    )
    return figure


def _sizes(figure: Figure, family: FamilyData, colours: SizeColours, *, x: float, y: float) -> None:
    """The sizes of a family in their colours, in rows above its panels, where they cover nothing."""
    unfinished = {run.parameters for run in family.runs if not run.is_finished}
    handles = [
        Line2D([], [], color=colours(p), linewidth=2.2, label=size(p) + ("*" if p in unfinished else ""))
        for p in sorted({run.parameters for run in family.runs})
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(x, y),
        ncols=min(len(handles), SIZES_PER_ROW),
        title="parameters" + (" (* unfinished)" if unfinished else ""),
        title_fontsize=SMALL_SIZE,
        alignment="left",
        borderaxespad=0,
        borderpad=0,
        handlelength=1.2,
        columnspacing=1.0,
        handletextpad=0.4,
    )
