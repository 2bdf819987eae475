"""The page that figures share: long titles, many sizes and long keys take the room they need, and cover nothing."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from matplotlib.lines import Line2D

from analysis.synthetic_study import as_run_data, text_runs
from figures.pages import assert_fits
from spectral_reach.figures.page import Column, Page, Row
from spectral_reach.figures.registry import FIGURES
from spectral_reach.figures.style import SizeColours, style
from spectral_reach.studies import registry

RUNS = [as_run_data(run) for run in text_runs(steps=20)]
WORDS = "Words that stand below the panels, and that go on for more than one line of a column of panels. " * 2
LONG = "A title that is far too long for one line over its column of panels, so it breaks"


def page_with(title: str, keys: int, columns: int = 2) -> Page:
    colours = SizeColours(run.parameters for run in RUNS)
    key = [Line2D([], [], label=f"entry {i} of the key") for i in range(keys)]
    page = Page([Column(title=title, runs=RUNS, words=WORDS)] * columns, (Row(), Row(height=1.0)), key, colours)
    for column in range(columns):
        for row in range(2):
            page.panel(column, row)
    return page


@pytest.mark.parametrize(
    "title", ["Short", "A title that is far too long for one line over its column of panels, so it breaks"]
)
@pytest.mark.parametrize(("keys", "columns"), [(0, 1), (4, 1), (7, 2), (12, 2)])
def test_everything_has_its_room(title: str, keys: int, columns: int) -> None:
    with style():
        page = page_with(title, keys, columns)
    assert_fits(page.figure)
    lines = [text.get_text() for text in page.figure.texts if text.get_weight() == "bold"]
    assert " ".join(lines) == " ".join([title] * columns)
    assert len(lines) == columns * (1 if title == "Short" else 2)


def test_keys_fill_their_rows() -> None:
    with style():
        (key,) = (legend for legend in page_with("Short", 7).figure.legends if len(legend.get_texts()) == 7)
    assert key._ncols == 4  # two rows, not a row of five or six and a straggler


def test_more_sizes_than_a_row_holds() -> None:
    with style():
        runs = [as_run_data(run) for i in range(9) for run in text_runs(steps=20, parameters=20_000 * (i + 1))[:1]]
        colours = SizeColours(run.parameters for run in runs)
        page = Page([Column(title="Many", runs=runs, words=WORDS)], (Row(),), [], colours)
        page.panel(0, 0)
    assert_fits(page.figure)


def test_entries_in_place_of_sizes() -> None:
    with style():
        column = Column(title="t", entries=[("one", (0.0, 0.0, 0.0, 1.0))], of_entries="compute (FLOPs)", words="w")
        page = Page([column], (Row(),), [], SizeColours([1]))
    (legend,) = page.figure.legends
    assert legend.get_title().get_text() == "compute (FLOPs)"
    assert [text.get_text() for text in legend.get_texts()] == ["one"]


def test_aligned_panels_share_their_axis() -> None:
    with style():
        page = page_with("Short", 1)
        upper, lower = page.figure.axes[:2]
        upper.plot([1, 5], [1, 2])
        lower.plot([2, 9], [1, 2])
        page.align((upper, lower))
    assert upper.get_xlim() == lower.get_xlim()
    assert np.ptp(upper.get_xlim()) > 8


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_run_and_drawn(name: str) -> None:
    entry = FIGURES[name]
    presets = [set(registry.find(study).presets) for study in entry.studies]
    assert "toy" in set.intersection(*presets)
    assert callable(import_module(entry.module).draw)
