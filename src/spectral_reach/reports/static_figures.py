"""The static figures that have been drawn beside the studies: for print, for readers without scripts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

from spectral_reach.reports.markup import Markup, element

MOST_BYTES = 5_000_000
"""Of all images together; those that come after are left out, so that the page stays easy to pass on."""


def find_figures(folder: Path, studies: Mapping[str, Path]) -> dict[str, Path]:
    """The PNG of every figure by its name, from ``folder/figures``, else from the studies' own ``figures``."""
    found: dict[str, Path] = {}
    for home in (folder, *studies.values()):
        for file in sorted((home / "figures").glob("*.png")):
            found.setdefault(file.stem, file)
    return found


def embedded(figures: Mapping[str, Path]) -> dict[str, Markup]:
    """Images by name, in the order of ``figures``, up to ``MOST_BYTES`` of files."""
    images: dict[str, Markup] = {}
    room = MOST_BYTES
    for name, file in figures.items():
        content = file.read_bytes()
        if len(content) <= room:
            room -= len(content)
            source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
            images[name] = element("img", src=source, alt=f"{name} as a static figure", class_="static", loading="lazy")
    return images


def without_chart(images: Mapping[str, Markup], charts: Iterable[str]) -> dict[str, Markup]:
    """The images whose figure has no interactive chart on the page."""
    drawn = set(charts)
    return {name: image for name, image in images.items() if name not in drawn}
