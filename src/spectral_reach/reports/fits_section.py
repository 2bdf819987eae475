"""The power laws of the loss on the page: those of every study that trains families of sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from spectral_reach.reports.collected import StudyRecord
from spectral_reach.reports.failures import logged_reason
from spectral_reach.reports.markup import Markup, element, joined
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.tables import Cell, number, table, text
from spectral_reach.studies.analysis.fits_report import COLUMNS, EXPLANATION, TITLE, Fit, fits

LEAST_SIZES = 2


def fits_section(studies: Sequence[StudyRecord]) -> Markup:
    """One table for all studies with at least two sizes of a family.

    As with the charts, whatever is raised in the fits of one study is told in its place, and logged as a warning.
    """
    rows: list[list[Cell]] = []
    notices: list[Markup] = []
    for study in studies:
        try:
            rows += list(_rows(study))
        except Exception as error:  # a defect in the fits of one study must not cost the page
            reason = logged_reason(f"the fits of {study.name} are not made", error)
            notices.append(
                element("p", f"The fits of {study.name} are not made: {without_paths(reason)}", class_="notice")
            )
    if not rows:
        return joined(notices or element("p", "No study here trains a family of several sizes."))
    return joined(notices, element("p", EXPLANATION), table(TITLE, ("study", *COLUMNS), rows, sortable=True))


def _rows(study: StudyRecord) -> Iterator[list[Cell]]:
    families = [family for family in study.data.families if len({run.parameters for run in family.runs}) >= LEAST_SIZES]
    for fit in fits(families):
        yield [text(study.name), *_cells(fit)]


def _cells(fit: Fit) -> Iterator[Cell]:
    """Under ``COLUMNS``; those of numbers are sorted by the number, not by what is shown."""
    law = fit.fit
    irreducible = law.irreducible.value if law.with_irreducible else math.nan
    orders = {"exponent": law.exponent.value, "irreducible loss": irreducible, "R²": law.r2, "points": law.n}
    for column, shown in zip(COLUMNS, fit.cells(), strict=True):
        yield number(shown, orders[column]) if column in orders else text(shown)
