"""A page of panels: a column for each family, with its title and sizes above and its words below, and rows of panels.

All lengths are inches, so that type and panels are of one size in every figure, however many panels it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spectral_reach.figures import caption
from spectral_reach.figures.style import SMALL_SIZE, TITLE_SIZE, SizeColours
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.study_data import RunData

COLUMN = 3.35
LEFT, RIGHT, GAP = 0.62, 0.12, 0.62
PANEL_HEIGHT, PANEL_GAP = 1.95, 0.14
AXIS_GAP = 0.6  # below a row that has labels of its own
TITLE_LINE, TITLE, SIZES_ROW = 0.19, 0.44, 0.15
AXIS_LABEL, KEY_ROW = 0.45, 0.17
BOTTOM = 0.12
SIZES_PER_ROW = 6

Colour = tuple[float, float, float, float]

_BOLD = 1.15  # how much wider bold type is
_HANDLE, _BETWEEN = 2.8, 1.5  # of a key: the line with its space, the space to the next, in units of the type size


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What stands above and below a column of panels.

    Attributes:
        title: above.
        runs: whose sizes are keyed above, those with an unfinished run marked.
        entries: what is keyed there instead of sizes, with its colours.
        of_entries: what the entries are.
        words: below.
    """

    title: str
    runs: Sequence[RunData] = ()
    entries: Sequence[tuple[str, Colour]] = ()
    of_entries: str = ""
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of panels: its height, and the gap to the row above."""

    height: float = PANEL_HEIGHT
    gap: float = PANEL_GAP


class Page:
    """The figure with everything but its panels' contents; make it inside ``style()``.

    ``key`` is what lines and marks mean, for all panels, below the lowest; ``colours`` are those of the sizes.
    """

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Row], key: Sequence[Artist], colours: SizeColours
    ) -> None:
        texts = [caption.wrap(column.words, COLUMN) for column in columns]
        titles = [caption.wrap(column.title, COLUMN / _BOLD, TITLE_SIZE) for column in columns]
        most_lines = max(len(lines) for lines in titles)
        entries = [column.entries or sizes_of(column.runs, colours) for column in columns]
        most_sizes = max(len(each) for each in entries)
        head = TITLE + (most_lines - 1) * TITLE_LINE + SIZES_ROW * math.ceil(most_sizes / SIZES_PER_ROW)
        self._width = LEFT + len(columns) * COLUMN + (len(columns) - 1) * GAP + RIGHT
        key_columns = _fitting([str(line.get_label()) for line in key], self._width - LEFT - RIGHT)
        key_height = AXIS_LABEL + KEY_ROW * math.ceil(len(key) / key_columns)
        foot = key_height + max(caption.height(lines) for lines in texts) + BOTTOM
        self._rows = rows
        self._foot = foot
        panels = sum(row.height for row in rows) + sum(row.gap for row in rows[1:])
        self._height = head + panels + foot
        self.figure = Figure(figsize=(self._width, self._height))
        for i, (column, title, text) in enumerate(zip(columns, titles, texts, strict=True)):
            self._title(title, self._left(i))
            unfinished = any(not run.is_finished for run in column.runs)
            of_entries = column.of_entries or ("parameters" + (" (* unfinished)" if unfinished else ""))
            self._entries(entries[i], of_entries, self._left(i), self._height - 0.08 - most_lines * TITLE_LINE)
            caption.write(self.figure, text, left=self._left(i), top=foot - key_height)
        self._key(key, key_columns, foot - key_height + 0.06)

    def panel(self, column: int, row: int) -> Axes:
        """New axes in this place, both counted from 0, rows from the top."""
        below = self._rows[row + 1 :]
        bottom = self._foot + sum(each.height + each.gap for each in below)
        size = (COLUMN / self._width, self._rows[row].height / self._height)
        return self.figure.add_axes((self._left(column) / self._width, bottom / self._height, *size))

    def align(self, panels: Sequence[Axes]) -> None:
        """Give the panels of a column one horizontal axis, and their names one place."""
        for panel in panels[:-1]:
            panel.sharex(panels[-1])
        self.figure.align_ylabels(panels)

    @staticmethod
    def _left(column: int) -> float:
        return LEFT + column * (COLUMN + GAP)

    def _title(self, lines: Sequence[str], left: float) -> None:
        for i, line in enumerate(lines):
            y = self._height - 0.08 - i * TITLE_LINE
            at = (left / self._width, y / self._height)
            self.figure.text(*at, line, fontsize=TITLE_SIZE, weight="bold", va="top")

    def _entries(self, entries: Sequence[tuple[str, Colour]], title: str, left: float, top: float) -> None:
        """A colour each, in rows above the panels, where they cover nothing."""
        if not entries:
            return
        handles = [Line2D([], [], color=colour, linewidth=2.2, label=name) for name, colour in entries]
        self.figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(left / self._width, top / self._height),
            ncols=min(len(handles), SIZES_PER_ROW),
            title=title,
            title_fontsize=SMALL_SIZE,
            alignment="left",
            borderaxespad=0,
            borderpad=0,
            handlelength=1.2,
            columnspacing=1.0,
            handletextpad=0.4,
        )

    def _key(self, key: Sequence[Artist], columns: int, bottom: float) -> None:
        if not key:
            return
        middle = (LEFT + (self._width - LEFT - RIGHT) / 2) / self._width
        self.figure.legend(
            handles=list(key),
            loc="lower center",
            bbox_to_anchor=(middle, bottom / self._height),
            ncols=columns,
            columnspacing=_BETWEEN,
            borderaxespad=0,
        )


def sizes_of(runs: Sequence[RunData], colours: SizeColours) -> list[tuple[str, Colour]]:
    """The sizes of these runs with their colours, those with an unfinished run marked by a star."""
    unfinished = {run.parameters for run in runs if not run.is_finished}
    return [(size(p) + ("*" if p in unfinished else ""), colours(p)) for p in sorted({run.parameters for run in runs})]


def _fitting(labels: Sequence[str], width: float) -> int:
    """Columns of a key: as many as fit into ``width``, or fewer in as many rows.

    Entries fill column after column, the first ones one longer.
    """
    em = SMALL_SIZE / caption.POINTS_PER_INCH
    widths = [caption.width_of(label) + _HANDLE * em for label in labels]
    for columns in range(len(labels), 1, -1):
        each, longer = divmod(len(labels), columns)
        lengths = [each + 1] * longer + [each] * (columns - longer)
        starts = [sum(lengths[:i]) for i in range(columns)]
        total = sum(max(widths[a : a + n]) for a, n in zip(starts, lengths, strict=True))
        if total + (columns - 1) * _BETWEEN * em <= width:
            return math.ceil(len(labels) / math.ceil(len(labels) / columns))
    return 1
