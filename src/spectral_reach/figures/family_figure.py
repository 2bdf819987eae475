"""A figure of families as files: its points are drawn, and written as rows, once for every such figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from spectral_reach.figures.points import COLUMNS, Point, as_row
from spectral_reach.figures.save import FORMATS, check_formats, save_figure, save_rows
from spectral_reach.figures.style import style
from spectral_reach.studies.analysis.study_data import FamilyData

Points = Sequence[Sequence[Point]]
"""Of each family, in the order of the families."""


def save_family_figure(
    name: str,
    families: Sequence[FamilyData],
    points_of: Callable[[FamilyData], Sequence[Point]],
    figure_of: Callable[[Sequence[FamilyData], Points], Figure],
    out: Path,
    formats: Sequence[str] | None,
) -> tuple[Path, ...]:
    """Write ``out/name.*`` and ``out/name.csv``; returns the files.

    Raises:
        ValueError: an unknown format.
        RecordError: ``out`` cannot be written.
    """
    formats = FORMATS if formats is None else formats
    check_formats(formats)
    points = [points_of(family) for family in families]
    with style():
        files = save_figure(figure_of(families, points), out / name, formats)
    rows = [as_row(point) for column in points for point in column]
    return (*files, save_rows(rows, COLUMNS, out / f"{name}.csv"))
