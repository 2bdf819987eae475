"""How numbers bear on a claim, and the three rules by which an interval decides."""

from __future__ import annotations

from enum import StrEnum

from spectral_reach.studies.analysis.interval import Interval


class Verdict(StrEnum):
    """What a claim's fixed rule makes of the numbers."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


def above(interval: Interval, bound: float) -> Verdict:
    """Supported if the interval lies wholly above ``bound``, contradicted if wholly below; NaN is inconclusive."""
    if interval.low > bound:
        return Verdict.SUPPORTED
    if interval.high < bound:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def below(interval: Interval, bound: float) -> Verdict:
    """Supported if the interval lies wholly below ``bound``, contradicted if wholly above; NaN is inconclusive."""
    if interval.high < bound:
        return Verdict.SUPPORTED
    if interval.low > bound:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE


def within(interval: Interval, low: float, high: float) -> Verdict:
    """Supported if the interval lies wholly between the bounds, contradicted if wholly outside; NaN is inconclusive."""
    if low < interval.low and interval.high < high:
        return Verdict.SUPPORTED
    if interval.low > high or interval.high < low:
        return Verdict.CONTRADICTED
    return Verdict.INCONCLUSIVE
