"""The ratio of two quantities of the same runs, size by size: late over early position, held-out over training data.

At every size both are averaged over the seeds first and divided then: R_i = mean_s a_is / mean_s b_is. Single runs
may be negative where noise exceeds a small position, so no single run's logarithm is taken; a mean that is not
significantly positive (``positive``) leaves the ratios undefined.

The error of log R_i comes from the seeds' deviations a_is / mean a_i - b_is / mean b_i, in which what a seed does to
both cancels, and from the runs' own errors, sqrt((stderr a / mean a)^2 + (stderr b / mean b)^2) each, taken as
independent (``seed_spread``).

Runs of one seed see the same units at every size, so the errors of the sizes are alike. For their mean that is covered
(``seed_spread.error_of_mean``); of a slope over sizes what they share drops out, and taking them as independent is
cautious.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate, FloatArray
from spectral_reach.studies.analysis.interval import Interval
from spectral_reach.studies.analysis.numbers import size
from spectral_reach.studies.analysis.positive import why_not_positive
from spectral_reach.studies.analysis.seed_spread import (
    error_of_mean,
    errors_of_means,
    seed_means,
    student_interval,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Numerator and denominator of the run, or of the two runs, of one seed."""

    seed: int
    above: Estimate
    below: Estimate

    @property
    def both(self) -> tuple[Estimate, Estimate]:
        """The numerator first."""
        return self.above, self.below


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeRatios:
    """Log ratios of S sizes, smallest first; empty with a ``reason``.

    Attributes:
        parameters: (S) of the sizes.
        logs: (S) natural logarithms of R_i.
        stderr: (S) theirs.
        degrees: of freedom of these errors.
        deviations: (S) of the seeds' log ratios from the size's, to first order, by seed.
        runs: pairs behind all of them.
        reason: why there are none.
    """

    parameters: tuple[int, ...]
    logs: FloatArray
    stderr: FloatArray
    degrees: int
    deviations: tuple[Mapping[int, float], ...]
    runs: int
    reason: str | None = None

    @classmethod
    def missing(cls, reason: str) -> SizeRatios:
        """No ratio at any size, for this reason."""
        return cls(parameters=(), logs=np.empty(0), stderr=np.empty(0), degrees=1, deviations=(), runs=0, reason=reason)

    @property
    def mean(self) -> Interval:
        """The mean of log R over the sizes, each counted once, with its 95% interval, sizes alike at equal seed."""
        if self.reason is not None:
            return Interval.missing()
        stderr, degrees = error_of_mean(self.stderr, self.degrees, self.deviations)
        return student_interval(Estimate(value=float(self.logs.mean()), stderr=stderr, n=self.runs), degrees)

    @property
    def slope(self) -> Interval:
        """The least-squares slope of log R against log10 of the parameters; NaN for fewer than two sizes."""
        x = np.log10(np.array(self.parameters, dtype=np.float64))
        if len(x) < 2:
            return Interval.missing()
        weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        value = Estimate(
            value=float(weights @ self.logs), stderr=math.hypot(*(weights * self.stderr).tolist()), n=self.runs
        )
        return student_interval(value, self.degrees)

    def minus(self, other: SizeRatios, *, times: float = 1.0) -> SizeRatios:
        """Log R less ``times`` the log R of other runs of the same sizes; of the sizes that both have.

        The errors of the two are taken as independent, which is cautious where a seed does the same to both. The
        degrees of freedom are the fewer of the two.
        """
        if self.reason is not None or other.reason is not None:
            return SizeRatios.missing(self.reason or other.reason or "")
        both = [parameters for parameters in self.parameters if parameters in other.parameters]
        if not both:
            return SizeRatios.missing("no size has runs of both")
        mine = [self.parameters.index(parameters) for parameters in both]
        its = [other.parameters.index(parameters) for parameters in both]
        return SizeRatios(
            parameters=tuple(both),
            logs=self.logs[mine] - times * other.logs[its],
            stderr=np.hypot(self.stderr[mine], times * other.stderr[its]),
            degrees=min(self.degrees, other.degrees),
            deviations=tuple(
                {seed: a[seed] - times * b[seed] for seed in a if seed in b}
                for a, b in ((self.deviations[i], other.deviations[j]) for i, j in zip(mine, its, strict=True))
            ),
            runs=self.runs + other.runs,
        )


def size_ratios(pairs: Mapping[int, Sequence[Pair]], names: tuple[str, str]) -> SizeRatios:
    """The ratios of ``pairs``: by parameters, the numerator and denominator of every run of that size.

    ``names`` are what a reason calls the two. A pair without value or error counts in no size; a size needs one with
    both.
    """
    kept = {p: [pair for pair in pairs[p] if all(each.is_defined for each in pair.both)] for p in sorted(pairs)}
    if not kept or not all(kept.values()):
        return SizeRatios.missing(_why_none(pairs, [p for p, known in kept.items() if not known], names))
    for side, name in enumerate(names):
        for parameters, known in kept.items():
            reason = why_not_positive([pair.both[side] for pair in known])
            if reason is not None:
                return SizeRatios.missing(f"{name} at {size(parameters)} parameters is {reason}")
    above, below = ([_Side.of([pair.both[side] for pair in known]) for known in kept.values()] for side in (0, 1))
    relative = [a.relative - b.relative for a, b in zip(above, below, strict=True)]
    errors = errors_of_means(
        relative,
        [np.hypot(a.relative_error, b.relative_error) for a, b in zip(above, below, strict=True)],
        [1.0] * len(kept),
        blocks=min(LEAST_BLOCKS, *(each.n for known in kept.values() for pair in known for each in pair.both)),
    )
    return SizeRatios(
        parameters=tuple(kept),
        logs=np.log([a.mean / b.mean for a, b in zip(above, below, strict=True)]),
        stderr=errors.stderr,
        degrees=errors.degrees,
        deviations=tuple(
            seed_means([pair.seed for pair in known], size) for known, size in zip(kept.values(), relative, strict=True)
        ),
        runs=sum(len(known) for known in kept.values()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """The numerators, or the denominators, of the S runs of one size: their mean, values and errors over it, (S)."""

    mean: float
    relative: FloatArray
    relative_error: FloatArray

    @classmethod
    def of(cls, runs: Sequence[Estimate]) -> _Side:
        values = np.array([each.value for each in runs])
        mean = float(values.mean())
        return cls(mean=mean, relative=values / mean, relative_error=np.array([each.stderr for each in runs]) / mean)


def _why_none(pairs: Mapping[int, Sequence[Pair]], lacking: Sequence[int], names: tuple[str, str]) -> str:
    reasons = {each.reason for p in lacking for pair in pairs[p] for each in pair.both if each.reason is not None}
    of = f" at {', '.join(size(p) for p in lacking)} parameters" if lacking else ""
    why = f" ({'; '.join(sorted(reasons))})" if reasons else ""
    return f"no run has both {names[0]} and {names[1]}{of}{why}"


def as_factor(log: Interval) -> Interval:
    """An interval of a logarithm as one of the factor itself."""
    return Interval(value=math.exp(log.value), low=math.exp(log.low), high=math.exp(log.high))
