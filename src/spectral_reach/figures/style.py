"""One visual language for every figure: type, axes, and model size on one ramp of colour.

Figures are ``matplotlib.figure.Figure`` objects drawn under ``style()``: no pyplot, no display, no global state left
behind. Text stays text in SVG and PDF. The ramp is viridis without its yellow end, which is perceptually uniform, safe
for colour-blind readers, ordered in grey print, and legible on white: small models light, large ones dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterMathtext, LogLocator, NullFormatter, NullLocator

from spectral_reach.studies.analysis.numbers import size

TITLE_SIZE = 8.5
LABEL_SIZE = 8.0
SMALL_SIZE = 6.8
INK = "#222222"
FAINT = "#8a8a8a"
FEW_DECADES = 1.6
FEW_FACTORS = 4
LEAST_TICKS, MOST_TICKS = 4, 6
MOST_DECADES_OF_SIZE = 2.6
SIZE_MARGIN = 1.35
_MANTISSAS = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5))
SHORTEST, LONGEST = 1e-4, 1e6  # between these, short without a power of ten

_LIGHTEST, _DARKEST = 0.80, 0.02  # positions on viridis

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": LABEL_SIZE,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": LABEL_SIZE,
    "axes.titlesize": TITLE_SIZE,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "spectral-reach",  # element ids that do not change from run to run
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw and save inside this: our settings apply, the caller's come back."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


class SizeColours:
    """The colour of each model size, by the logarithm of its parameters between the smallest and the largest."""

    _ramp = "viridis"
    _ends = (_LIGHTEST, _DARKEST)

    def __init__(self, values: Iterable[float]) -> None:
        logs = [math.log(value) for value in values]
        self._low, self._high = min(logs), max(logs)
        self._colours = matplotlib.colormaps[self._ramp]

    def __call__(self, value: float) -> tuple[float, float, float, float]:
        """RGBA; the darkest for a single size."""
        span = self._high - self._low
        share = (math.log(value) - self._low) / span if span else 1.0
        first, last = self._ends
        red, green, blue, alpha = self._colours(first + share * (last - first))
        return red, green, blue, alpha


class ComputeColours(SizeColours):
    """The colour of each compute, by its logarithm: a ramp that is not that of size, but as ordered and as legible."""

    _ramp = "plasma"
    _ends = (0.85, 0.05)


def log_compute_axis(axes: Axes, *, labelled: bool) -> None:
    """A logarithmic horizontal axis of compute, in powers of ten of FLOPs."""
    axes.set_xscale("log")
    _powers_of_ten(axes.xaxis)
    if labelled:
        axes.set_xlabel("compute (FLOPs)")
    else:
        axes.tick_params(labelbottom=False)


def log_size_axis(axes: Axes, parameters: Iterable[int], *, labelled: bool = True) -> None:
    """A logarithmic horizontal axis of parameters, with room at both ends, labelled 10k, 100k, 1M; also 2 and 5."""
    sizes = sorted(parameters)
    low, high = sizes[0] / SIZE_MARGIN, sizes[-1] * SIZE_MARGIN
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    subs = (1.0,) if math.log10(high / low) > MOST_DECADES_OF_SIZE else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=99))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(round(value))))
    axes.xaxis.set_minor_locator(LogLocator(subs=tuple(range(2, 10)), numticks=99))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if labelled:
        axes.set_xlabel("parameters")
    else:
        axes.tick_params(labelbottom=False)


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis from ``low`` to ``high`` in powers of ten; 2 and 5 are labelled if these are few."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    _powers_of_ten(axes.yaxis)
    if _are_few(low, high):
        _label_two_and_five(axes.yaxis)


def log_loss_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis over a decade or less, labelled with round plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    _evenly_spaced(axes.yaxis, low, high)


def log_plain_axis(axes: Axes, low: float, high: float, *, horizontal: bool = False) -> None:
    """A logarithmic axis, vertical or ``horizontal``, labelled 0.1, 1, 10, also 2 and 5 where these are few.

    Less than ``FEW_FACTORS`` apart, evenly spaced round numbers. Numbers of more than six digits as in ``log_axis``.
    """
    (axes.set_xscale if horizontal else axes.set_yscale)("log")
    (axes.set_xlim if horizontal else axes.set_ylim)(low, high)
    axis = axes.xaxis if horizontal else axes.yaxis
    if high / low < FEW_FACTORS:
        _evenly_spaced(axis, low, high)
        return
    _powers_of_ten(axis)
    few = _are_few(low, high)
    if low >= SHORTEST and high < LONGEST:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=99))
        axis.set_major_formatter(FuncFormatter(_plain))
    elif few:
        _label_two_and_five(axis)


def _are_few(low: float, high: float) -> bool:
    """Whether so few powers of ten lie between that they do not tell the scale."""
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    return math.log10(high / low) < FEW_DECADES or powers < 2


def _label_two_and_five(axis: Axis) -> None:
    axis.set_minor_formatter(FuncFormatter(_two_or_five))
    axis.set_tick_params(which="minor", labelsize=SMALL_SIZE - 1, pad=1.5)  # as wide as they are, near the axis


def _evenly_spaced(axis: Axis, low: float, high: float) -> None:
    axis.set_major_locator(FixedLocator(_round_numbers(low, high)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_locator(NullLocator())


def _plain(value: float, _: int) -> str:
    if SHORTEST <= value < LONGEST:
        return f"{value:,g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    return rf"${value / 10.0**exponent:g}\times 10^{{{exponent}}}$"


def _powers_of_ten(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(numticks=12))
    axis.set_major_formatter(LogFormatterMathtext())
    axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10)), numticks=99))
    axis.set_minor_formatter(NullFormatter())


def _two_or_five(value: float, _: int) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = round(value / 10.0**exponent)
    return rf"${mantissa}\times 10^{{{exponent}}}$" if mantissa in (2, 5) else ""


def _round_numbers(low: float, high: float) -> list[float]:
    """At most six round numbers between ``low`` and ``high``, evenly spaced: no more decades than that are drawn.

    Where these are few, more numbers in even ratios if there are such: 0.6, 0.8, 1, 1.2, 1.5 for 1 and 1.5 alone.
    """
    even = _evenly_spaced_numbers(low, high)
    in_ratio = next((numbers for numbers in _in_even_ratios(low, high) if len(numbers) <= MOST_TICKS), [])
    return in_ratio if len(even) < LEAST_TICKS and len(in_ratio) > len(even) else even


def _in_even_ratios(low: float, high: float) -> Iterator[list[float]]:
    """Numbers between ``low`` and ``high``, from the closest to the widest ratio."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _MANTISSAS:
        numbers = (mantissa * 10.0**exponent for exponent in exponents for mantissa in mantissas)
        yield [number for number in numbers if low <= number <= high]


def _evenly_spaced_numbers(low: float, high: float) -> list[float]:
    width = high - low
    step = 10.0 ** math.floor(math.log10(width))
    for multiple in (0.1, 0.2, 0.5, 1.0, 2.0):
        if width / (multiple * step) < MOST_TICKS:
            step *= multiple
            break
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
