"""The ratio of two quantities of the same runs, size by size: late over early position, held-out over training data.

At every size both are averaged over the seeds first and divided then: R_i = mean_s a_is / mean_s b_is. Single runs
may be negative where noise exceeds a small position, so no single run's logarithm is taken; a mean that is not
significantly positive (its 95% interval reaches 0) leaves the ratios undefined.

The error of log R_i comes from the seeds' deviations a_is / mean a_i - b_is / mean b_i, in which what a seed does to
both cancels, and from the runs' own errors, sqrt((stderr a / mean a)^2 + (stderr b / mean b)^2) each, taken as
independent (``seed_spread``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate, FloatArray
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.numbers import size, small
from spectral_reach.studies.analysis.seed_spread import errors_of_means, student_interval

Pair = tuple[Estimate, Estimate]


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeRatios:
    """Log ratios of S sizes, smallest first; empty with a ``reason``.

    Attributes:
        parameters: (S) of the sizes.
        logs: (S) natural logarithms of R_i.
        stderr: (S) theirs.
        degrees: of freedom of these errors.
        runs: pairs behind all of them.
        reason: why there are none.
    """

    parameters: tuple[int, ...]
    logs: FloatArray
    stderr: FloatArray
    degrees: int
    runs: int
    reason: str | None = None

    @property
    def mean(self) -> Interval:
        """The mean of log R over the sizes, each counted once, with its 95% interval."""
        return self._weighted(np.full(len(self.logs), 1 / max(1, len(self.logs))))

    @property
    def slope(self) -> Interval:
        """The least-squares slope of log R against log10 of the parameters; NaN for fewer than two sizes."""
        x = np.log10(np.array(self.parameters, dtype=np.float64))
        if len(x) < 2:
            return Interval.missing()
        return self._weighted((x - x.mean()) / ((x - x.mean()) ** 2).sum())

    def minus(self, other: SizeRatios) -> SizeRatios:
        """Log R less the log R of independent runs of the same sizes; of the sizes that both have.

        Its degrees of freedom are the fewer of the two.
        """
        if self.reason is not None or other.reason is not None:
            return _undefined(self.reason or other.reason or "")
        both = [parameters for parameters in self.parameters if parameters in other.parameters]
        if not both:
            return _undefined("no size has runs of both")
        mine = [self.parameters.index(parameters) for parameters in both]
        its = [other.parameters.index(parameters) for parameters in both]
        return SizeRatios(
            parameters=tuple(both),
            logs=self.logs[mine] - other.logs[its],
            stderr=np.hypot(self.stderr[mine], other.stderr[its]),
            degrees=min(self.degrees, other.degrees),
            runs=self.runs + other.runs,
        )

    def _weighted(self, weights: FloatArray) -> Interval:
        if self.reason is not None:
            return Interval.missing()
        value = Estimate(
            value=float(weights @ self.logs), stderr=math.hypot(*(weights * self.stderr).tolist()), n=self.runs
        )
        return student_interval(value, self.degrees)


def size_ratios(pairs: Mapping[int, Sequence[Pair]], names: tuple[str, str]) -> SizeRatios:
    """The ratios of ``pairs``: by parameters, the numerator and denominator of every run of that size.

    ``names`` are what a reason calls the two. A pair without value or error counts in no size; a size needs one with
    both.
    """
    kept = {p: [pair for pair in pairs[p] if all(each.is_defined for each in pair)] for p in sorted(pairs)}
    if not kept or not all(kept.values()):
        lacking = [p for p, known in kept.items() if not known]
        reasons = sorted(
            {each.reason for p in lacking for pair in pairs[p] for each in pair if each.reason is not None}
        )
        of = f" at {', '.join(size(p) for p in lacking)} parameters" if lacking else ""
        return _undefined(
            f"no run has both {names[0]} and {names[1]}{of}" + (f" ({'; '.join(reasons)})" if reasons else "")
        )
    blocks = min(LEAST_BLOCKS, *(each.n for known in kept.values() for pair in known for each in pair))
    sides = [
        [np.array([[pair[side].value, pair[side].stderr] for pair in known]) for known in kept.values()]
        for side in (0, 1)
    ]
    for name, side in zip(names, sides, strict=True):
        errors = errors_of_means(
            [x[:, 0] for x in side], [x[:, 1] for x in side], [x[:, 0].mean() for x in side], blocks=blocks
        )
        for parameters, x, stderr in zip(kept, side, errors.stderr.tolist(), strict=True):
            mean = Estimate(value=float(x[:, 0].mean()), stderr=stderr, n=len(x))
            if not student_interval(mean, errors.degrees).low > 0:
                return _undefined(
                    f"{name} at {size(parameters)} parameters is not significantly positive: {small(mean)}"
                )
    relative = [[x / x[:, 0].mean() for x in side] for side in sides]
    errors = errors_of_means(
        [a[:, 0] - b[:, 0] for a, b in zip(*relative, strict=True)],
        [np.hypot(a[:, 1], b[:, 1]) for a, b in zip(*relative, strict=True)],
        [1.0] * len(kept),
        blocks=blocks,
    )
    means = [np.array([x[:, 0].mean() for x in side]) for side in sides]
    return SizeRatios(
        parameters=tuple(kept),
        logs=np.log(means[0] / means[1]),
        stderr=errors.stderr,
        degrees=errors.degrees,
        runs=sum(len(known) for known in kept.values()),
    )


def _undefined(reason: str) -> SizeRatios:
    return SizeRatios(parameters=(), logs=np.empty(0), stderr=np.empty(0), degrees=1, runs=0, reason=reason)


def as_factor(log: Interval) -> Interval:
    """An interval of a logarithm as one of the factor itself."""
    return Interval(value=math.exp(log.value), low=math.exp(log.low), high=math.exp(log.high))
