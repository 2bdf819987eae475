"""Numbers in words, tables and figures: one way to write a size, a small number and an error."""

from __future__ import annotations

import math

from spectral_reach.studies.analysis.estimate import Estimate

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def size(parameters: int) -> str:
    """A number of parameters to three digits: 984, 20.9k, 56k, 1.23M, 7B."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 999,500 rounds to 1000k, which is 1M.
        if parameters >= 0.9995 * unit:
            return f"{parameters / unit:.3g}{letter}"
    return str(parameters)


def power_of_ten(exponent: int) -> str:
    """10 to a whole power, in superscript characters that every one of our fonts has."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def small(estimate: Estimate) -> str:
    """``(1.23 ± 0.09)×10⁻⁶``; without error ``1.23×10⁻⁶``; without value a dash."""
    value, stderr = estimate.value, estimate.stderr
    if math.isnan(value):
        return "–"
    largest = max(abs(value), 0.0 if math.isnan(stderr) else stderr)
    if largest == 0:
        return "0"
    exponent = math.floor(math.log10(largest))
    unit = power_of_ten(exponent)
    if math.isnan(stderr):
        return f"{signed(value / 10**exponent)}×{unit}"
    return f"({signed(value / 10**exponent)} ± {stderr / 10**exponent:.2f})×{unit}"


def with_error(estimate: Estimate) -> str:
    """``2.312 ± 0.004``: the error to one digit (two if it begins with 1), the value to the same place."""
    value, stderr = estimate.value, estimate.stderr
    if math.isnan(value):
        return "–"
    if math.isnan(stderr) or stderr == 0:
        return f"{value:.4g}"
    exponent = math.floor(math.log10(stderr))
    places = max(0, -exponent + (stderr / 10**exponent < 2))
    return f"{signed(value, places)} ± {stderr:.{places}f}"


def interval(low: float, high: float) -> str:
    """``0.081 to 0.085``, with as many digits as tell the ends apart, at least two decimals."""
    width = abs(high - low)
    places = 2 if width == 0 else max(2, math.ceil(-math.log10(width)) + 1)
    return f"{signed(low, places)} to {signed(high, places)}"


def with_interval(value: float, low: float, high: float) -> str:
    """``0.36 (0.31 to 0.42)``: as many decimals as leave two digits of the interval's width, and no more than four
    digits of the numbers themselves; a dash without value."""
    if math.isnan(value):
        return "–"
    if math.isnan(low) or math.isnan(high):
        return f"{value:.2g}".replace("-", "−")
    width, largest = high - low, max(abs(low), abs(value), abs(high))
    places = 2 if width == 0 else 1 - math.floor(math.log10(width))
    if largest > 0:
        places = max(0, min(places, 3 - math.floor(math.log10(largest))))
    return f"{signed(value, places)} ({signed(low, places)} to {signed(high, places)})"


def signed(value: float, places: int = 2) -> str:
    """``−0.40``, with a true minus sign."""
    return f"{value:.{places}f}".replace("-", "−")
