"""A number with its standard error, and the two ways in which repeated measurements become one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LEAST_BLOCKS = 8  # the error from fewer is itself too uncertain


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """``value`` ± ``stderr`` from ``n`` measurements; where either is NaN, ``reason`` says why.

    The standard error covers the spread from measurement to measurement (fresh batches, fresh probes) within
    one run. It does not cover what another seed of the same run would give.
    """

    value: float
    stderr: float
    n: int
    reason: str | None = None

    def __post_init__(self) -> None:
        undefined = math.isnan(self.value) or math.isnan(self.stderr)
        assert undefined == (self.reason is not None), f"{self.value} ± {self.stderr} with reason {self.reason!r}"

    @classmethod
    def missing(cls, reason: str) -> Estimate:
        """No value at all, for this reason."""
        return cls(value=math.nan, stderr=math.nan, n=0, reason=reason)

    @property
    def is_defined(self) -> bool:
        """Whether there are both a value and a standard error."""
        return self.reason is None


def mean(values: FloatArray, *, in_sequence: bool = False) -> Estimate:
    """The mean of the finite values, with standard error s / sqrt(n), s^2 the sample variance.

    ``in_sequence``: as in ``ratio_of_means``.
    """
    return ratio_of_means(values, np.ones(len(values)), in_sequence=in_sequence)


def ratio_of_means(numerator: FloatArray, denominator: FloatArray, *, in_sequence: bool = False) -> Estimate:
    """R = mean(numerator) / mean(denominator), with the jackknife's standard error.

    The mean of ratios would be biased where the denominator fluctuates, and dominated by a few rows where the
    numerator can be negative; averaging the two apart is neither. With R_(i) the ratio that leaves measurement i out,
    stderr^2 = (n - 1) / n * sum_i (R_(i) - mean R_(.))^2. Pairs with a value that is not finite are left out.

    ``in_sequence`` is for measurements along a stretch of training, where a run's own ups and downs last longer than a
    step, so that neighbours are alike: in the runs of our demo they correlate by 0.2 on average, and by up to 0.5.
    The jackknife then leaves out whole blocks of neighbours, of n^(1/3) measurements (the length that keeps bias and
    variance of such errors in balance), but no fewer than ``LEAST_BLOCKS`` blocks. At a correlation of 0.3 the error of
    34 measurements is then 11% too small instead of 27%; without correlation it stays right.
    """
    finite = np.isfinite(numerator) & np.isfinite(denominator)
    above, below = numerator[finite], denominator[finite]
    n = len(above)
    if n == 0:
        return Estimate.missing(_no_values(len(numerator)))
    if below.sum() == 0:
        return Estimate.missing("the denominator is zero in every measurement")
    value = float(above.sum() / below.sum())
    if n == 1:
        reason = "one measurement has no spread to take a standard error from"
        return Estimate(value=value, stderr=math.nan, n=1, reason=reason)
    length = max(1, min(round(n ** (1 / 3)), n // LEAST_BLOCKS)) if in_sequence else 1
    starts = np.linspace(0, n, n // length, endpoint=False).astype(np.intp)
    below_without = below.sum() - np.add.reduceat(below, starts)
    if (below_without == 0).any():
        reason = "all but one of the measurements have a zero denominator, so their spread is unknown"
        return Estimate(value=value, stderr=math.nan, n=n, reason=reason)
    without = (above.sum() - np.add.reduceat(above, starts)) / below_without
    blocks = len(starts)
    variance = (blocks - 1) / blocks * float(((without - without.mean()) ** 2).sum())
    return Estimate(value=value, stderr=math.sqrt(variance), n=n)


def _no_values(n: int) -> str:
    return "there is no measurement" if n == 0 else f"none of the {n} measurements is defined"
