"""The mean over sizes of a number that every run has, with an interval that covers seeds and the runs' errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.seed_spread import errors_of_means, student_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanOfSizes:
    """``interval`` holds the mean, every size counted once, from so many ``runs``; NaN with a ``reason``."""

    interval: Interval
    runs: int
    reason: str | None = None


def mean_of_sizes(
    values: Sequence[tuple[int, Estimate]], *, least: float = -math.inf, most: float = math.inf
) -> MeanOfSizes:
    """The mean of ``values``, a pair (parameters, estimate) for each run; undefined estimates are left out.

    Seeds are taken to differ by as much at every size (``seed_spread``). The interval ends where the values of such a
    number do, at ``least`` and ``most``.
    """
    known: dict[int, list[Estimate]] = {}
    for parameters, estimate in values:
        if estimate.is_defined:
            known.setdefault(parameters, []).append(estimate)
    if not known:
        reasons = sorted({estimate.reason for _, estimate in values if estimate.reason is not None})
        return MeanOfSizes(interval=Interval.missing(), runs=0, reason="; ".join(reasons) or "there is no run")
    sizes = list(known.values())
    means = [np.array([each.value for each in size]) for size in sizes]
    errors = errors_of_means(
        means,
        [np.array([each.stderr for each in size]) for size in sizes],
        [1.0] * len(sizes),
        blocks=min(LEAST_BLOCKS, *(each.n for size in sizes for each in size)),
    )
    runs = sum(len(size) for size in sizes)
    value = Estimate(
        value=float(np.mean([size.mean() for size in means])),
        stderr=math.hypot(*errors.stderr.tolist()) / len(sizes),
        n=runs,
    )
    found = student_interval(value, errors.degrees)
    interval = Interval(value=found.value, low=max(found.low, least), high=min(found.high, most))
    return MeanOfSizes(interval=interval, runs=runs)
