"""The ratio of two estimates with Fieller's interval, which takes no logarithm and knows when there is no ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.interval import HIGH, Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """``interval`` has the ratio with its 95% interval; what is NaN in it has a ``reason``."""

    interval: Interval
    reason: str | None = None


def ratio(above: Estimate, below: Estimate, degrees: int) -> Ratio:
    """``above`` / ``below``, two independent estimates whose errors have so many degrees of freedom.

    The interval (Fieller 1954) holds every rho for which above - rho * below is within Student's factor times its
    standard error of 0. If ``below`` is itself not that far from 0, no interval is bounded, and there is not even a
    ratio to be spoken of: both are NaN. A ratio without interval comes of estimates without standard errors.
    """
    if math.isnan(above.value) or math.isnan(below.value):
        return Ratio(interval=Interval.missing(), reason=above.reason if math.isnan(above.value) else below.reason)
    if below.value == 0:
        return Ratio(interval=Interval.missing(), reason="the denominator is 0")
    value = above.value / below.value
    if not above.is_defined or not below.is_defined:
        reason = above.reason if not above.is_defined else below.reason
        return Ratio(interval=Interval(value=value, low=math.nan, high=math.nan), reason=reason)
    from scipy.special import stdtrit

    factor = float(stdtrit(degrees, HIGH))
    share = (factor * below.stderr / below.value) ** 2
    if below.value < 0 or share >= 1:
        reason = f"the denominator is not clearly above 0: {below.value:.2g} ± {below.stderr:.2g}"
        return Ratio(interval=Interval.missing(), reason=reason)
    spread = (above.stderr / below.value) ** 2
    reach = factor * math.sqrt(spread * (1 - share) + (value * below.stderr / below.value) ** 2)
    low, high = (value - reach) / (1 - share), (value + reach) / (1 - share)
    return Ratio(interval=Interval(value=value, low=low, high=high))
