"""What tests of figures share: the page as an object, the rows of its CSV, and what every page has to be like.

Not a test: ``tests/`` is on the path, so it is imported as ``figures.pages``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from spectral_reach.figures.registry import figure
from spectral_reach.figures.style import style

MARKS_OF_THE_AXIS = ("v",)  # triangles that say that a value lies below


def page_of(name: str, studies: Path | Sequence[Path], out: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """The figure object; it is not written as an image, but its CSV is."""
    kept: list[Figure] = []
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **_: (kept.append(self), path.write_bytes(b"")))
        figure(name).draw(studies, out, ["png"])
    return kept[0]


def rows_of(name: str, out: Path) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def values_of(rows: Sequence[dict[str, str]], **wanted: object) -> list[float]:
    return [
        float(row["value"]) if row["value"] else math.nan
        for row in rows
        if all(row[key] == str(value) for key, value in wanted.items())
    ]


def words_of(page: Figure) -> str:
    return " ".join(text.get_text() for text in page.texts)


def keys_of(page: Figure) -> list[str]:
    return [text.get_text() for legend in page.legends for text in legend.get_texts()]


def assert_fits(page: Figure) -> None:
    """Nothing sticks out of the page, no key covers a panel, no text another text."""
    with style():  # ticks are made when they are measured
        _assert_fits(page)


def _assert_fits(page: Figure) -> None:
    width, height = page.get_size_inches() * page.dpi
    panels = [axes.get_window_extent() for axes in page.axes]
    tight = [axes.get_tightbbox() for axes in page.axes]
    keys = [legend.get_window_extent() for legend in page.legends]
    texts = [text.get_window_extent() for text in page.texts]
    for box in (*tight, *keys, *texts):
        assert box is not None
        assert -1 <= box.x0 <= box.x1 <= width + 1, box
        assert -1 <= box.y0 <= box.y1 <= height + 1, box
    for box in keys:
        assert not any(box.overlaps(panel) for panel in panels)
        assert not any(box.overlaps(text) for text in texts)
    for i, one in enumerate(panels):
        assert not any(one.overlaps(other) for other in (*panels[i + 1 :], *texts))


def assert_rows_hold_what_is_drawn(page: Figure, rows: Sequence[dict[str, str]]) -> None:
    """Every point of every line with data is a value of a row, or the end of an interval."""
    numbers = {float(row[column]) for row in rows for column in ("value", "low", "high") if row[column]}
    drawn = 0
    for axes in page.axes:
        low, high = axes.get_ylim()
        for line in axes.lines:
            y = np.asarray(line.get_ydata(), dtype=float)
            is_guide = (len(y) == 2 and line.get_transform() != axes.transData) or line.get_zorder() == 0
            if is_guide or line.get_marker() in MARKS_OF_THE_AXIS:
                continue
            for value in y[np.isfinite(y)]:
                assert value in numbers or value == low, (axes.get_ylabel(), value)
                drawn += 1
        assert low < high
    assert drawn > 0
