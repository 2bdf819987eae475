"""Words under a figure, broken into lines by their real width, so that they stay text in every format."""

from __future__ import annotations

import re

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from spectral_reach.figures.style import SMALL_SIZE

POINTS_PER_INCH = 72
LINE_SPACING = 1.3


def wrap(text: str, width: float, size: float = SMALL_SIZE) -> list[str]:
    """Break ``text`` into lines no wider than ``width`` inches; a single longer word keeps a line to itself.

    A value stays with its error, and a name with its number: no line ends before or after "±", "=" and the like.
    """
    lines: list[str] = []
    for word in re.split(r"(?<![±=<>≤])\s+(?![±=<>≤])", text.strip()):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def height(lines: list[str], size: float = SMALL_SIZE) -> float:
    """Inches that these lines take."""
    return len(lines) * size * LINE_SPACING / POINTS_PER_INCH


def write(figure: Figure, lines: list[str], *, left: float, top: float, size: float = SMALL_SIZE) -> None:
    """Set lines with their upper left corner ``left`` and ``top`` inches from the figure's lower left corner."""
    width_inches, height_inches = figure.get_size_inches()
    for i, line in enumerate(lines):
        y = top - i * size * LINE_SPACING / POINTS_PER_INCH
        figure.text(left / width_inches, y / height_inches, line, fontsize=size, va="top", ha="left")


def width_of(text: str, size: float = SMALL_SIZE) -> float:
    """Inches that ``text`` takes in one line."""
    points, _, _ = _METRICS.get_text_width_height_descent(text, FontProperties(family="DejaVu Sans", size=size), False)
    return float(points) / POINTS_PER_INCH


_METRICS = TextToPath()
