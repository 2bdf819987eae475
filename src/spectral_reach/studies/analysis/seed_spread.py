"""Standard errors of means over seeds, of every size of a family at once.

Two or three seeds of one size say little about how much seeds differ: with two, the error of a mean would itself be off
by a factor of two as often as not. All sizes together know more. So the variance of run s of size i is taken as

    w_s^2 + tau^2 m_i^2,

w_s its own standard error (batches and probes, one model), m_i the unit in which seeds are to differ equally at every
size: the size's mean, if their spread is relative, or 1 for logarithms. tau comes from the equation of Paule and Mandel
(1982): the deviations from the sizes' means, squared and over their variance with the mean w^2 of the size, add up to
their degrees of freedom, sum_i (S_i - 1). Deviations that the runs' own errors explain leave tau = 0. An interval takes
Student's factor for these degrees of freedom.

Sizes are not independent of each other: runs of one seed draw the same units in the same order, whatever their size,
so their noise is alike (late in training of text, by a correlation of 0.3 for chi_pos_unbiased and 0.5 or more for
chi_pos and held-out measurements). A mean over sizes is then less certain than independent errors say, by up to the
root of the number of sizes. Its standard error is therefore the larger of two (``error_of_mean``): that of independent
sizes, with their degrees of freedom, and that of the S seeds' own means over sizes, with S - 1, in which whatever the
sizes share is left as it is. Simulated with three seeds and four or five sizes, such intervals cover 93% to 97% for
correlations from 0 to 1, and up to 99% where the noise is independent and known from the runs' own errors; those of
independent sizes alone fall to 58%. Two seeds tell correlations badly: there they cover 89% at worst.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import LEAST_BLOCKS, Estimate, FloatArray
from spectral_reach.studies.analysis.interval import HIGH, Interval

_HALVINGS = 60  # of the bracket around tau^2: to the last bit
_NEGLIGIBLE = 1e-12  # of the largest tau^2 that there can be


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeErrors:
    """The errors of the sizes' means.

    Attributes:
        stderr: (sizes) standard errors.
        spread: tau, the standard deviation from seed to seed in the unit of a size, beyond what the runs' own errors
            explain; NaN where no size has two runs: then ``stderr`` does not cover seeds.
        degrees: of freedom of all errors, for Student's factor: sum_i (S_i - 1), or those of one run's own error.
    """

    stderr: FloatArray
    spread: float
    degrees: int


def errors_of_means(
    values: Sequence[FloatArray],
    own_errors: Sequence[FloatArray],
    units: Sequence[float],
    *,
    blocks: int = LEAST_BLOCKS,
) -> SizeErrors:
    """The errors of the means of ``values`` by size.

    Args:
        values: of each size, one a seed, (S_i), S_i >= 1.
        own_errors: their standard errors, likewise; 0 where there is none but the seed's.
        units: m_i of each size.
        blocks: repetitions that an own error comes from, for its degrees of freedom where no size has two seeds.
    """
    own = np.array([float((each**2).mean()) for each in own_errors])
    squares = np.array([float(((each - each.mean()) ** 2).sum()) for each in values])
    seeds = np.array([len(each) for each in values])
    degrees = int((seeds - 1).sum())
    if degrees == 0:
        return SizeErrors(stderr=np.sqrt(own), spread=math.nan, degrees=max(1, blocks - 1))
    unit = np.array(units) ** 2
    told = (seeds > 1) & (unit > 0)
    spread = _paule_mandel(squares[told], own[told], unit[told], degrees)
    return SizeErrors(stderr=np.sqrt((own + spread * unit) / seeds), spread=math.sqrt(spread), degrees=degrees)


def _paule_mandel(squares: FloatArray, own: FloatArray, unit: FloatArray, degrees: int) -> float:
    """tau^2 with sum squares / (own + tau^2 unit) = degrees, or 0 where that is too much already."""

    low, high = 0.0, float((squares / unit).sum()) / degrees  # what it would be without own errors: the most
    if high == 0 or not own.any():
        return high
    least = _NEGLIGIBLE * high * unit

    def excess(spread: float) -> float:
        return float((squares / np.maximum(own + spread * unit, least)).sum()) - degrees

    if excess(low) <= 0:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def error_of_mean(stderr: FloatArray, degrees: int, by_seed: Sequence[Mapping[int, float]]) -> tuple[float, int]:
    """The standard error of the mean over sizes, each counted once, and its degrees of freedom.

    Where fewer than two seeds have every size, nothing tells how alike the sizes' errors are: they are taken as wholly
    so, and the error is the mean of the sizes' errors, the most that it can be.

    Args:
        stderr: (sizes) of the sizes' means.
        degrees: of freedom of these errors.
        by_seed: of each size what each seed gives, or how far that is from the size's mean.
    """
    complete = sorted(set.intersection(*(set(size) for size in by_seed)))
    if len(complete) < 2:
        return float(stderr.mean()), degrees
    independent = math.hypot(*stderr.tolist()) / len(stderr)
    means = np.array([[size[seed] for seed in complete] for size in by_seed]).mean(axis=0)
    of_seeds = float(means.std(ddof=1)) / math.sqrt(len(complete))
    return (of_seeds, len(complete) - 1) if of_seeds > independent else (independent, degrees)


def seed_means(seeds: Sequence[int], values: FloatArray) -> dict[int, float]:
    """The mean of the ``values`` of each seed, mostly one."""
    of = np.array(seeds)
    return {seed: float(values[of == seed].mean()) for seed in dict.fromkeys(seeds)}


def student_interval(estimate: Estimate, degrees: int) -> Interval:
    """The 95% interval of ``estimate``, whose standard error has so many degrees of freedom; NaN without error."""
    if not estimate.is_defined:
        return Interval(value=estimate.value, low=math.nan, high=math.nan)
    from scipy.special import stdtrit

    reach = float(stdtrit(degrees, HIGH)) * estimate.stderr
    return Interval(value=estimate.value, low=estimate.value - reach, high=estimate.value + reach)
