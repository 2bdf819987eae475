"""The power law of a spectrum's tail, p_k ~ k^-a, with an interval that counts the tail's own bends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.measured.arguments import integer
from spectral_reach.spectra.krylov import Floats

BINS = 8
"""Of equal width in log k: as many points as the line is fitted to."""

LEAST_MODES = 32
"""From fewer modes no exponent is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw:
    """p_k = factor k^-exponent for k = first .. last, counted from 1.

    Attributes:
        exponent: a; NaN where undefined.
        low, high: its 95% interval.
        factor: the fitted p at k = 1.
        first, last: the modes of the fit.
        undefined: why there is none; empty otherwise.
    """

    exponent: float
    low: float
    high: float
    factor: float
    first: int
    last: int
    undefined: str = ""


def fit_tail(p: Floats, floor: float, first: int | None = None, last: int | None = None) -> PowerLaw:
    """Least squares in log p against log k over ``BINS`` bins of equal width in log k.

    Neighbouring eigenvalues are no independent draws, so a regression over modes would have an error that is far too
    small. The means of bins scatter about the line by what the spectrum bends; the interval is Student's from that
    scatter. Neighbouring bins bend together, which Student does not count, so the interval is at least so wide that it
    has the exponents of either half of the range in it. A slow bend over the whole range, as of a random walk, it still
    misses: the exponent is that of this range and no other.

    Args:
        p: normalised eigenvalues (n,), descending.
        floor: eigenvalues below are rounding and left out.
        first, last: modes of the fit, counted from 1; by default from a tenth of those above the floor, but no earlier
            than the tenth mode, to the last above the floor or nine tenths of all, where a finite spectrum bends down.

    Raises:
        ValueError, TypeError: a range that is none.
    """
    above = int((p > floor).sum())
    start = max(10, above // 10) if first is None else integer("first", first)
    stop = min(above, math.ceil(0.9 * len(p))) if last is None else integer("last", last)
    if start < 1 or (last is not None and not start < last <= len(p)):
        raise ValueError(f"the tail's range is {start} to {stop}; expected 1 <= first < last <= {len(p)}")
    stop = min(stop, above)
    if stop - start + 1 < LEAST_MODES:
        reason = (
            f"{max(0, stop - start + 1)} modes above rounding are too few for an exponent: {LEAST_MODES} are needed"
        )
        nan = math.nan
        return PowerLaw(exponent=nan, low=nan, high=nan, factor=nan, first=start, last=stop, undefined=reason)
    k = np.arange(start, stop + 1)
    x, y = np.log(k), np.log(p[start - 1 : stop])
    edges = np.linspace(x[0], x[-1], BINS + 1)
    bin_of = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    filled = np.unique(bin_of)
    mean_x = np.array([x[bin_of == each].mean() for each in filled])
    mean_y = np.array([y[bin_of == each].mean() for each in filled])
    from scipy.stats import linregress, t

    line = linregress(mean_x, mean_y)
    exponent, few = -float(line.slope), len(filled) // 2
    of_halves = [-float(linregress(mean_x[half], mean_y[half]).slope) for half in (slice(few), slice(-few, None))]
    student = float(t.ppf(0.975, len(filled) - 2)) * float(line.stderr)
    width = max(student, *(abs(each - exponent) for each in of_halves))
    return PowerLaw(
        exponent=exponent,
        low=exponent - width,
        high=exponent + width,
        factor=math.exp(line.intercept),
        first=start,
        last=stop,
    )
