"""Does spectral position go with model size? Spearman's rank correlation, exact p-values and uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray

EXACT_UP_TO = 9
RANDOM_PERMUTATIONS = 200_000
SAME = 1e-9  # closer correlations are equal: sums of the same half-integers in another order


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCorrelation:
    """Spearman's rho of model size with a quantity, over the runs where the quantity is defined.

    Attributes:
        rho: rank correlation, ties by average rank; -1 when every larger model has the smaller value.
        p_falling: probability, were size without effect, of a rho as low as this one or lower.
        p_rising: the same, as high or higher.
        p_two_sided: the same, as far from 0.
        exact: whether all n! orders were counted, or random ones.
        low: 2.5% quantile of rho when every value is redrawn within its standard error.
        high: 97.5% quantile. The redrawn values carry their error twice, which pulls rho towards 0: cautious.
        n: runs.
        reason: why rho is NaN.
    """

    rho: float
    p_falling: float
    p_rising: float
    p_two_sided: float
    exact: bool
    low: float
    high: float
    n: int
    reason: str | None = None


def rank_correlation(
    sizes: Sequence[int], estimates: Sequence[Estimate], *, seed: int = 0, draws: int = 4000
) -> RankCorrelation:
    """Rank correlation of ``sizes`` with the estimates' values; entries without value or error are left out.

    The p-values permute the values over the runs: exact by enumeration up to ``EXACT_UP_TO`` runs, above that
    from ``RANDOM_PERMUTATIONS`` seeded orders (the observed one counted among them, so never 0). They answer
    whether the order could be chance; ``low`` and ``high`` answer whether the measurement errors could have
    made it.
    """
    kept = [(size, e) for size, e in zip(sizes, estimates, strict=True) if e.is_defined]
    if len(kept) < 3:
        left_out = sorted({e.reason for e in estimates if e.reason is not None})
        why = f"; left out: {'; '.join(left_out)}" if left_out else ""
        return _undefined(len(kept), f"{len(kept)} runs have a value and an error, 3 are needed{why}")
    x = np.array([size for size, _ in kept], dtype=np.float64)
    y = np.array([e.value for _, e in kept])
    if len(set(x)) == 1 or len(set(y)) == 1:
        return _undefined(len(kept), f"all {'sizes' if len(set(x)) == 1 else 'values'} are equal")
    rng = np.random.default_rng(seed)
    size_ranks, ranks = average_ranks(x), average_ranks(y)
    rho = float(_correlation(size_ranks, ranks[None])[0])
    orders, exact = _orders(len(y), rng)
    under_chance = _correlation(size_ranks, ranks[orders])
    stderr = np.array([e.stderr for _, e in kept])
    redrawn = average_ranks(y + stderr * rng.standard_normal((draws, len(y))))
    low, high = np.quantile(_correlation(size_ranks, redrawn), [0.025, 0.975])
    return RankCorrelation(
        rho=rho,
        p_falling=float((under_chance <= rho + SAME).mean()),
        p_rising=float((under_chance >= rho - SAME).mean()),
        p_two_sided=float((np.abs(under_chance) >= abs(rho) - SAME).mean()),
        exact=exact,
        low=float(low),
        high=float(high),
        n=len(kept),
    )


def average_ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1 over the last axis; equal values share the mean of their places."""
    above = (values[..., :, None] > values[..., None, :]).sum(axis=-1)
    equal = (values[..., :, None] == values[..., None, :]).sum(axis=-1)
    ranks: FloatArray = above + (equal + 1) / 2
    return ranks


def _orders(n: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], bool]:
    """Permutations of n things, one a row, and whether these are all of them."""
    if n <= EXACT_UP_TO:
        return np.array(list(itertools.permutations(range(n))), dtype=np.intp), True
    shuffled = rng.permuted(np.tile(np.arange(n), (RANDOM_PERMUTATIONS - 1, 1)), axis=1)
    return np.vstack([np.arange(n), shuffled]), False


def _correlation(x: FloatArray, ys: FloatArray) -> FloatArray:
    """Pearson's correlation of the ranks x with every row of ranks ys."""
    a = x - x.mean()
    b = ys - ys.mean(axis=1, keepdims=True)
    rho: FloatArray = b @ a / np.sqrt((a @ a) * (b * b).sum(axis=1))
    return rho


def _undefined(n: int, reason: str) -> RankCorrelation:
    nan = math.nan
    return RankCorrelation(
        rho=nan, p_falling=nan, p_rising=nan, p_two_sided=nan, exact=False, low=nan, high=nan, n=n, reason=reason
    )
