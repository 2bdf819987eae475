"""The report: folders of studies into one HTML file that works from the disk, without a network and for good."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from spectral_reach import __version__
from spectral_reach.records.atomic import make_folder, write_text_atomically
from spectral_reach.reports.charts.registry import Drawn, draw_charts
from spectral_reach.reports.claims_section import claims_section, claims_summary
from spectral_reach.reports.collected import StudyRecord, find_studies, read_studies
from spectral_reach.reports.configurations import configuration_section
from spectral_reach.reports.environment import environment_section
from spectral_reach.reports.fits_section import fits_section
from spectral_reach.reports.markup import Markup, element, folded, joined
from spectral_reach.reports.overview import overview, study_table
from spectral_reach.reports.page import Part, page
from spectral_reach.reports.private_paths import without_paths
from spectral_reach.reports.run_table import run_section
from spectral_reach.reports.static_figures import static_figures, without_chart
from spectral_reach.reports.task_table import task_section
from spectral_reach.studies.analysis.claims import ClaimsTable, evaluate, write_claims

NAME = "report.html"
ANOTHER_FILE = "name another file with --out"
TITLE = "Spectral Reach: what our runs say"


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What ``build`` has made.

    Attributes:
        page: the file.
        claims: the table in it.
        files: the claims table as text and as values, beside the page.
    """

    page: Path
    claims: ClaimsTable
    files: tuple[Path, Path]


def build(folder: Path | str, out: Path | str | None = None) -> Built:
    """Write the report of a folder that holds study folders, or of one study folder.

    Studies may be unfinished, or not have begun: the report says how far they are. A chart that cannot be drawn is
    named there with the reason, and logged as a warning.

    Args:
        folder: of the studies.
        out: the file, by default ``report.html`` in ``folder``; it is whole or not there. ``claims.md`` and
            ``claims.json`` come to stand beside it.

    Raises:
        ForeignFolderError: there is no study, two of one name, or one that this version does not read.
        RecordError: a table or result is damaged, or the file cannot be written.
        ModuleNotFoundError: plotly is not installed.
    """
    require_plotly()
    folder = Path(folder)
    file = folder / NAME if out is None else Path(out)
    paths = find_studies(folder)
    claims = evaluate(paths)
    text = html(folder, paths, claims, now=time.time())
    make_folder(file.parent, ANOTHER_FILE)
    write_text_atomically(file, text, ANOTHER_FILE)
    return Built(page=file, claims=claims, files=write_claims(claims, file.parent))


def html(folder: Path, paths: Mapping[str, Path], claims: ClaimsTable, *, now: float) -> str:
    """The page's text: of the studies in ``folder``, which are at ``paths``.

    ``now`` is the moment that it gives as its own, in seconds since 1970.
    """
    studies = read_studies(paths)
    drawn = draw_charts({study.name: study for study in studies})
    parts = (
        Part(key="claims", title="Claims", content=claims_section(claims)),
        Part(key="fits", title="Fits", content=fits_section(studies)),
        Part(key="figures", title="Figures", content=_figures(folder, paths, drawn)),
        Part(key="runs", title="Runs", content=_runs(studies, now)),
        Part(key="settings", title="Settings", content=configuration_section(studies)),
        Part(key="environment", title="Environment", content=environment_section(studies)),
    )
    head = joined(overview(studies, now), claims_summary(claims))
    footer = joined(f"Made by spectral-reach {__version__}. This page is complete in itself: it loads nothing.")
    return page(TITLE, head, parts, drawn.charts, footer)


def require_plotly() -> None:
    """Find out at once, not after the reading, that plotly is missing.

    Raises:
        ModuleNotFoundError: it is.
    """
    if find_spec("plotly") is None:
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")


def _figures(folder: Path, paths: Mapping[str, Path], drawn: Drawn) -> Markup:
    charts, static = drawn.charts, static_figures(folder, paths)
    others = without_chart(static.images, (chart.key for chart in charts))
    notices = joined(_not_drawn(drawn), static.left_out())
    if not charts and not static.images:
        return joined(notices, element("p", "There is nothing to draw yet.") if not drawn.failed else None)
    return joined(
        notices,
        element(
            "p",
            "The same numbers as in the static figures and their CSV. Buttons show and hide sizes and quantities; a "
            "point tells its numbers; drag to zoom in, double-click to zoom out.",
            class_="needs-script",
        ),
        (chart.html(static.images.get(chart.key)) for chart in charts),
        folded("Static figures without an interactive version", *(element("p", each) for each in others.values()))
        if others
        else None,
    )


def _not_drawn(drawn: Drawn) -> Markup:
    """The charts that could not be drawn from the studies here, each with its reason."""
    return joined(
        element("p", f"The chart {name} is not drawn: {without_paths(reason)}", class_="notice")
        for name, reason in drawn.failed.items()
    )


def _runs(studies: Sequence[StudyRecord], now: float) -> Markup:
    return joined(
        study_table(studies),
        element("h3", "All runs"),
        run_section(studies),
        element("h3", "Tasks"),
        task_section(studies, now),
    )
