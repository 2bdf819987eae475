"""Figure 4 of the paper: the spectral position of linear probes on random backbones over that on pre-trained ones.

A column a data set. Above: the position with either backbone, averaged over the last tenth of training, against model
size. Below: its ratio, random over pre-trained. Bars are 95% intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spectral_reach.figures.curves import DOTTED, key_below, key_line, note
from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.figures.fig4_data import PRETRAINED, RANDOM, RATIO, set_points
from spectral_reach.figures.folders import read_probes
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.points import COLUMNS, Point, as_row, known
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.size_panel import Series, draw_against_size, has_marks_below, key_mark
from spectral_reach.figures.style import SizeColours, style
from spectral_reach.figures.words import at_ends
from spectral_reach.studies.analysis.probe_sets import ProbeSet

NAME = "fig4"

_LATE = tuple(
    Series(quantity=backbone + position, marker=marker, filled=position == "chi_pos_unbiased", aside=aside)
    for backbone, marker, place in ((RANDOM, "s", -0.8), (PRETRAINED, "o", 0.8))
    for position, aside in (("chi_pos_unbiased", place - 0.4), ("chi_pos", place + 0.4))
)
_RATIOS = (
    Series(quantity=f"{RATIO}chi_pos_unbiased", marker="D", aside=-0.5),
    Series(quantity=f"{RATIO}chi_pos", marker="D", filled=False, aside=0.5),
)
_NOTHING = "no size has finished runs of both"
_NONE_FINISHED = "no probe is finished"


def draw(studies: Sequence[Path], out: Path, formats: Sequence[str] | None = None) -> tuple[Path, ...]:
    """Draw the figure of the probes of these studies as ``out/fig4.*``, with its data as CSV; returns the files.

    Raises:
        NothingToDrawError: no run has begun, or no probe is finished.
        ValueError: an unknown format, or two families are of one kind.
        ForeignFolderError: a folder is not a study of this library or has no probes, or cannot be read.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    sets = read_probes(studies)
    points = [set_points(each) for each in sets]
    if not any(points):
        raise NothingToDrawError(
            f"no linear probe of {', '.join(map(str, studies))} is finished: got nothing to average; run it further."
        )
    with style():
        files = save_figure(_figure(sets, points), out / NAME, formats)
    rows = [as_row(point) for column in points for point in column]
    return (*files, save_rows(rows, COLUMNS, out / f"{NAME}.csv"))


def _figure(sets: Sequence[ProbeSet], points: Sequence[Sequence[Point]]) -> Figure:
    probes = [[run for family in each.families for run in family.runs if run.trained != "all"] for each in sets]
    colours = SizeColours(run.parameters for runs in probes for run in runs)
    columns = [
        Column(title=title_of(each), runs=runs, words=_describe(each, column))
        for each, runs, column in zip(sets, probes, points, strict=True)
    ]
    triangles = any(
        has_marks_below(column, _LATE, beside=column) or has_marks_below(column, _RATIOS, level=1.0, beside=column)
        for column in points
        if column
    )
    key = [
        key_mark("random backbone", "s"),
        key_mark("pre-trained backbone", "o"),
        key_mark("their ratio", "D"),
        key_line("filled: chi_pos_unbiased"),
        key_line("open: chi_pos of the mini-batch", **DOTTED),
        *key_below(is_drawn=triangles),
    ]
    page = Page(columns, (Row(), Row()), key, colours)
    for i, column in enumerate(points):
        above, below = page.panel(i, 0), page.panel(i, 1)
        draw_against_size(above, column, colours, _LATE, beside=column, labelled=False)
        draw_against_size(below, column, colours, _RATIOS, level=1.0, beside=column)
        if not column:
            note(above, _NONE_FINISHED)
        if not known(column, *(series.quantity for series in _RATIOS)):
            note(below, _NOTHING)
        if i == 0:
            above.set_ylabel("late spectral position")
            below.set_ylabel("late position, random / pre-trained")
        page.align((above, below))
    return page.figure


def title_of(probes: ProbeSet) -> str:
    """What a column of probes is called."""
    return f"Linear probes: {probes.data}" if probes.data else "Linear probes"


def _describe(probes: ProbeSet, points: Sequence[Point]) -> str:
    data = str(probes.families[0].runs[0].facts.get("data_description", "")).rstrip(".")
    head = f"{data}. " if data else ""
    names = {f"{RATIO}chi_pos_unbiased": "chi_pos_unbiased", f"{RATIO}chi_pos": "mini-batch chi_pos"}
    if not known(points, *names):
        return f"{head}Probes on random and on pre-trained backbones cannot be compared: {_NOTHING}."
    return (
        f"{head}Position with a random over that with a pre-trained backbone, last tenth of training (95% intervals): "
        f"{at_ends(points, names, level=1.0)}"
    )
