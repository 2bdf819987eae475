"""The power laws of the loss on the page: those of every study that trains families of sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spectral_reach.reports.collected import StudyRecord
from spectral_reach.reports.markup import Markup, element, joined
from spectral_reach.reports.tables import Cell, table, text
from spectral_reach.studies.analysis.fits_report import COLUMNS, EXPLANATION, TITLE, fits

LEAST_SIZES = 2


def fits_section(studies: Sequence[StudyRecord]) -> Markup:
    """One table for all studies with at least two sizes of a family."""
    rows = [row for study in studies for row in _rows(study)]
    if not rows:
        return element("p", "No study here trains a family of several sizes.")
    return joined(element("p", EXPLANATION), table(TITLE, ("study", *COLUMNS), rows, sortable=True))


def _rows(study: StudyRecord) -> Iterator[list[Cell]]:
    families = [family for family in study.data.families if len({run.parameters for run in family.runs}) >= LEAST_SIZES]
    for fit in fits(families):
        yield [text(study.name), *map(text, fit.cells())]
