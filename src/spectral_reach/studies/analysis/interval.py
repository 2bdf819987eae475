"""A number with an interval whose ends need not be as far from it: what a bootstrap gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import FloatArray

LOW, HIGH = 0.025, 0.975


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """``value`` with its 95% interval, ``low`` to ``high``; all NaN where whatever holds it gives a reason."""

    value: float
    low: float
    high: float

    @classmethod
    def missing(cls) -> Interval:
        """Nothing is known."""
        return cls(value=math.nan, low=math.nan, high=math.nan)

    @classmethod
    def of_draws(cls, value: float, draws: FloatArray) -> Interval:
        """``value`` between the 2.5% and the 97.5% quantile of ``draws``."""
        low, high = np.quantile(draws, [LOW, HIGH])
        return cls(value=value, low=float(low), high=float(high))
