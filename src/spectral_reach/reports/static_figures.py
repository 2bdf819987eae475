"""The static figures that have been drawn beside the studies: for print, for readers without scripts."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectral_reach.figures.registry import FIGURES
from spectral_reach.reports.markup import Markup, element

MOST_BYTES = 5_000_000
"""Of all images together; those that come after are left out, so that the page stays easy to pass on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticFigures:
    """Images by the names of their figures, and the names of those that are not on the page.

    Attributes:
        images: in the order in which they were found.
        outdated: drawn before the newest result of their studies: they would contradict the charts.
        too_large: beyond ``MOST_BYTES``.
    """

    images: Mapping[str, Markup]
    outdated: tuple[str, ...]
    too_large: tuple[str, ...]

    def left_out(self) -> Markup | None:
        """What is missing and why, for the page; None where nothing is."""
        clauses = []
        if self.outdated:
            clauses.append(
                f"older than the newest result of their studies, to be drawn again: {', '.join(self.outdated)}"
            )
        if self.too_large:
            clauses.append(f"beyond {MOST_BYTES / 1e6:g} MB of images: {', '.join(self.too_large)}")
        return element("p", f"Static figures left out: {'; '.join(clauses)}.", class_="faint") if clauses else None


def static_figures(folder: Path, studies: Mapping[str, Path]) -> StaticFigures:
    """The PNG of every figure, from ``folder/figures``, else from the studies' own ``figures``.

    ``studies`` are the study folders of the page by name.
    """
    newest = {path: _newest_result(path) for path in studies.values()}
    fresh: dict[str, Path] = {}
    outdated: dict[str, None] = {}
    for home in (folder, *studies.values()):
        for file in sorted((home / "figures").glob("*.png")):
            of = [home] if home in newest else _studies_of(file.stem, studies)
            if file.stat().st_mtime < max((newest[path] for path in of), default=-math.inf):
                outdated[file.stem] = None
            else:
                fresh.setdefault(file.stem, file)
    images, too_large = _embedded(fresh)
    return StaticFigures(
        images=images, outdated=tuple(name for name in outdated if name not in fresh), too_large=too_large
    )


def without_chart(images: Mapping[str, Markup], charts: Iterable[str]) -> dict[str, Markup]:
    """The images whose figure has no interactive chart on the page."""
    drawn = set(charts)
    return {name: image for name, image in images.items() if name not in drawn}


def _studies_of(figure: str, studies: Mapping[str, Path]) -> list[Path]:
    """Those that the figure is drawn from; all of them where none of these is here, or nobody knows the figure."""
    names = FIGURES[figure].studies if figure in FIGURES else ()
    return [studies[name] for name in names if name in studies] or list(studies.values())


def _newest_result(study: Path) -> float:
    """When the newest row of a run or result of a task was written, in seconds since 1970."""
    return max((file.stat().st_mtime for file in _results(study)), default=-math.inf)


def _results(study: Path) -> Iterator[Path]:
    yield from (study / "runs").glob("*/[!.]*.parquet")
    yield from (study / "results").glob("[!.]*")


def _embedded(figures: Mapping[str, Path]) -> tuple[dict[str, Markup], tuple[str, ...]]:
    """Images by name, in the order of ``figures``, up to ``MOST_BYTES`` of files, and the names of the others."""
    images: dict[str, Markup] = {}
    too_large = []
    room = MOST_BYTES
    for name, file in figures.items():
        content = file.read_bytes()
        if len(content) > room:
            too_large.append(name)
            continue
        room -= len(content)
        source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
        images[name] = element("img", src=source, alt=f"{name} as a static figure", class_="static", loading="lazy")
    return images, tuple(too_large)
