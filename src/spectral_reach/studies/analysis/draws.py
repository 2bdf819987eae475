"""How an average of random draws converges: its spread over disjoint repetitions, and the power of that spread.

M draws are averaged, again and again with fresh draws: a long row of them is cut into groups of M for one M after the
other, each dividing the next. Within one M no draw is used twice, so the spread over the groups is that of an average
of M draws, whatever the draws are like. Across M the groups are nested. For independent normal draws s_M, the standard
deviation over the G_M groups, then is a walk: cov(log s_M, log s_L) = 1 / (2 (G_M - 1)) for M below L. Its steps are
independent, with variance (1 / (G_L - 1) - 1 / (G_M - 1)) / 2, so the exponent is fitted to the steps, each with its
weight. That choice of weights is all that is taken from theory: the interval is the jackknife's over blocks of the
longest average, within which all groups lie, with Student's factor.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray

LEAST_BLOCKS = 6
"""Fewer repetitions of the longest average have no spread worth the name."""
_RATIO = 1.8
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class SpreadPoint:
    """What averages of ``averaged`` draws are like.

    Attributes:
        averaged: M, draws of an average.
        means: the averages, one of each disjoint group.
        variation: their coefficient of variation: standard deviation over the groups, by the mean of all draws.
        low: of its 95% interval; tails heavier than normal ones, as all draws have them, make it wider.
        high: likewise.
    """

    averaged: int
    means: FloatArray
    variation: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLaw:
    """variation = ``single`` * M^``exponent``.

    Attributes:
        exponent: fitted, with the 95% interval ``low`` to ``high``.
        single: variation of one draw.
        blocks: disjoint repetitions of the longest average, the sample of the interval.
        longest: draws of that average.
        reason: why nothing is fitted; else None.
    """

    exponent: float
    low: float
    high: float
    single: float
    blocks: int
    longest: int
    reason: str | None = None


def lengths(longest: int) -> tuple[int, ...]:
    """1 to ``longest``, each a divisor of the next, about a factor of two apart."""
    chosen = [longest]
    while chosen[-1] > 1:
        divisors = [n for n in range(1, chosen[-1]) if chosen[-1] % n == 0]
        chosen.append(max((n for n in divisors if n * _RATIO <= chosen[-1]), default=1))
    return tuple(reversed(chosen))


def spread(draws: FloatArray, longest: int) -> tuple[SpreadPoint, ...]:
    """One point an M, up to ``longest``; a tail of draws too short for a block of ``longest`` is left out.

    ``draws`` positive, at least two blocks of them.
    """
    blocks = _blocks(draws, longest)
    if len(blocks) < 2:
        return ()
    excess = max(0.0, _excess_kurtosis(blocks))
    return tuple(_point(blocks, averaged, excess) for averaged in lengths(longest))


def power_law(draws: FloatArray, longest: int) -> PowerLaw:
    """The power with which the variation falls, by steps from M to M, with the jackknife's interval over blocks."""
    blocks = _blocks(draws, longest)
    n, lacking = len(blocks), None
    if n < LEAST_BLOCKS:
        lacking = f"{n} repetitions of {longest} draws are too few, {LEAST_BLOCKS} are needed"
    elif len(lengths(longest)) < 2:
        lacking = "averages of one draw alone show no fall"
    elif blocks.std() == 0:
        lacking = "the draws are all alike"
    if lacking is not None:
        nan = math.nan
        return PowerLaw(exponent=nan, low=nan, high=nan, single=nan, blocks=n, longest=longest, reason=lacking)
    from scipy.special import stdtrit

    exponent = _exponent(blocks)
    without = np.array([_exponent(np.delete(blocks, each, axis=0)) for each in range(n)])
    stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    reach = float(stdtrit(n - 1, (1 + _LEVEL) / 2)) * stderr
    single = float(blocks.std(ddof=1) / blocks.mean())
    return PowerLaw(
        exponent=exponent, low=exponent - reach, high=exponent + reach, single=single, blocks=n, longest=longest
    )


def single_variation(draws: FloatArray) -> Estimate:
    """The coefficient of variation of one draw, with the jackknife's standard error."""
    n = len(draws)
    if n < LEAST_BLOCKS:
        return Estimate.missing(f"{n} draws are too few, {LEAST_BLOCKS} are needed")
    # Without each draw in turn, from sums.
    mean = (draws.sum() - draws) / (n - 1)
    deviation = draws - draws.mean()
    square = (deviation**2).sum() - deviation**2 * n / (n - 1)
    without = np.sqrt(np.maximum(square, 0.0) / (n - 2)) / mean
    stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    return Estimate(value=float(draws.std(ddof=1) / draws.mean()), stderr=stderr, n=n)


def _blocks(draws: FloatArray, longest: int) -> FloatArray:
    """Rows of ``longest`` consecutive draws."""
    whole = len(draws) // longest
    return draws[: whole * longest].reshape(whole, longest)


def _excess_kurtosis(draws: FloatArray) -> float:
    """0 for normal draws."""
    deviation = draws - draws.mean()
    square = float((deviation**2).mean())
    return float((deviation**4).mean()) / square**2 - 3 if square else 0.0


def _point(blocks: FloatArray, averaged: int, excess: float) -> SpreadPoint:
    from scipy.special import chdtri

    means = blocks.reshape(-1, averaged).mean(axis=1)
    # var(s^2) / s^4 = 2 / (G - 1) + excess / G, of means excess / M: as if of fewer groups of normal ones.
    degrees = 2 / (2 / (len(means) - 1) + excess / blocks.size)
    variation = float(means.std(ddof=1) / blocks.mean())
    tail = (1 - _LEVEL) / 2
    return SpreadPoint(
        averaged=averaged,
        means=means,
        variation=variation,
        low=variation * math.sqrt(degrees / float(chdtri(degrees, tail))),
        high=variation * math.sqrt(degrees / float(chdtri(degrees, 1 - tail))),
    )


def _exponent(blocks: FloatArray) -> float:
    """Weighted mean of the slopes between neighbouring M."""
    above = below = 0.0
    for (log_m, log_s, degrees), (next_m, next_s, next_degrees) in itertools.pairwise(_logs(blocks)):
        step = next_m - log_m
        variance = (1 / next_degrees - 1 / degrees) / 2
        above += step * (next_s - log_s) / variance
        below += step**2 / variance
    return above / below


def _logs(blocks: FloatArray) -> list[tuple[float, float, int]]:
    """log M, log s_M and the degrees of freedom of s_M, for every M."""
    found = []
    for averaged in lengths(blocks.shape[1]):
        means = blocks.reshape(-1, averaged).mean(axis=1)
        degrees = len(means) - 1
        # The logarithm of a standard deviation is on average too small by this, for normal means.
        bias = 1 / (2 * degrees) + 1 / (6 * degrees**2)
        found.append((math.log(averaged), math.log(float(means.std(ddof=1))) + bias, degrees))
    return found
