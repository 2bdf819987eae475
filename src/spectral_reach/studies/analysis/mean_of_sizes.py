"""The mean over sizes of a number that every run has, with an interval that covers seeds and the runs' errors.

Runs of one seed see the same units at every size, so the sizes' errors are alike: ``seed_spread.error_of_mean``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.seed_spread import (
    error_of_mean,
    errors_of_means,
    seed_means,
    student_interval,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunValue:
    """What one run, of so many ``parameters`` and this ``seed``, says of a number.

    Where all seeds of a size make one value, that is no run's: all sizes then have the same ``seed``.
    """

    parameters: int
    estimate: Estimate
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanOfSizes:
    """The mean, every size counted once.

    Attributes:
        interval: its 95% interval; NaN with a ``reason``.
        runs: how many are behind it.
        reason: why there is no mean.
        left_out: how many runs had no value or error.
        why_left_out: their reasons; empty if there are none.
    """

    interval: Interval
    runs: int
    reason: str | None = None
    left_out: int = 0
    why_left_out: str = ""


def mean_of_sizes(values: Sequence[RunValue], *, least: float = -math.inf, most: float = math.inf) -> MeanOfSizes:
    """The mean of ``values``, one for each run; undefined estimates are left out, and the result says so.

    Seeds are taken to differ by as much at every size (``seed_spread``). The interval ends where the values of such a
    number do, at ``least`` and ``most``.
    """
    known: dict[int, list[RunValue]] = {}
    left_out = [each.estimate for each in values if not each.estimate.is_defined]
    for each in values:
        if each.estimate.is_defined:
            known.setdefault(each.parameters, []).append(each)
    why = "; ".join(sorted({estimate.reason for estimate in left_out if estimate.reason is not None}))
    if not known:
        return MeanOfSizes(
            interval=Interval.missing(),
            runs=0,
            reason=why or "there is no run",
            left_out=len(left_out),
            why_left_out=why,
        )
    sizes = list(known.values())
    found_at = [np.array([each.estimate.value for each in size]) for size in sizes]
    errors = errors_of_means(
        found_at,
        [np.array([each.estimate.stderr for each in size]) for size in sizes],
        [1.0] * len(sizes),
        blocks=min(LEAST_BLOCKS, *(each.estimate.n for size in sizes for each in size)),
    )
    by_seed = [seed_means([each.seed for each in size], at) for size, at in zip(sizes, found_at, strict=True)]
    stderr, degrees = error_of_mean(errors.stderr, errors.degrees, by_seed)
    runs = sum(len(size) for size in sizes)
    value = Estimate(value=float(np.mean([at.mean() for at in found_at])), stderr=stderr, n=runs)
    found = student_interval(value, degrees)
    interval = Interval(value=found.value, low=max(found.low, least), high=min(found.high, most))
    return MeanOfSizes(interval=interval, runs=runs, left_out=len(left_out), why_left_out=why)
