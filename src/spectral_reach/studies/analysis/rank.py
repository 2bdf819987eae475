"""Does spectral position go with model size? Spearman's rank correlation, exact p-values and uncertainty."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray

PERMUTATIONS = 400_000  # enough to enumerate all orders of nine sizes
SAME = 1e-9  # closer correlations are equal: sums of the same half-integers in another order


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCorrelation:
    """Spearman's rho of model size with a quantity, over the runs where the quantity is defined.

    Attributes:
        rho: rank correlation, ties by average rank; -1 when every larger model has the smaller value.
        p_falling: probability, were size without effect, of a rho as low as this one or lower.
        p_rising: the same, as high or higher.
        p_two_sided: the same, as far from 0.
        exact: whether all orders of the sizes were counted, or random ones.
        low: 2.5% quantile of rho when every value is redrawn within its standard error.
        high: 97.5% quantile. The redrawn values carry their error twice, which pulls rho towards 0: cautious.
        n: runs.
        sizes: different sizes of them, which are what the p-values count.
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
    sizes: int
    reason: str | None = None


def rank_correlation(
    sizes: Sequence[int],
    estimates: Sequence[Estimate],
    *,
    seed: int = 0,
    draws: int = 4000,
    permutations: int = PERMUTATIONS,
) -> RankCorrelation:
    """Rank correlation of ``sizes`` with the estimates' values; entries without value or error are left out.

    The p-values permute the sizes, all runs of one together: seeds are no evidence of their own on what size does. All
    orders are counted if there are no more than ``permutations``, as for nine sizes, else so many seeded random ones;
    of three sizes no order has a p-value below 1/6. They answer whether the order could be chance; ``low`` and ``high``
    answer whether the measurement errors could have made it.
    """
    from scipy.stats import rankdata

    kept = [(size, e) for size, e in zip(sizes, estimates, strict=True) if e.is_defined]
    if len(kept) < 3:
        left_out = sorted({e.reason for e in estimates if e.reason is not None})
        why = f"; left out: {'; '.join(left_out)}" if left_out else ""
        reason = f"{len(kept)} runs have a value and an error, 3 are needed{why}"
        return undefined_rank(reason, n=len(kept), sizes=len({size for size, _ in kept}))
    x = np.array([size for size, _ in kept], dtype=np.float64)
    y = np.array([e.value for _, e in kept])
    if len(set(x)) == 1 or len(set(y)) == 1:
        reason = f"all {'sizes' if len(set(x)) == 1 else 'values'} are equal"
        return undefined_rank(reason, n=len(kept), sizes=len(set(x)))
    rng = np.random.default_rng(seed)
    size_ranks, ranks = rankdata(x), rankdata(y)
    rho = float(_correlation(size_ranks, ranks))
    _, size_of_run, runs_of_size = np.unique(x, return_inverse=True, return_counts=True)
    orders, exact = orders_of(len(runs_of_size), permutations, rng)
    sums = np.array([(ranks - ranks.mean())[size_of_run == i].sum() for i in range(len(runs_of_size))])
    under_chance = _in_other_orders(orders, runs_of_size, sums, ranks)
    if not exact:
        under_chance = np.append(under_chance, rho)  # so that no p-value is 0
    stderr = np.array([e.stderr for _, e in kept])
    redrawn = rankdata(y + stderr * rng.standard_normal((draws, len(y))), axis=1)
    redrawn_rho = _correlation(size_ranks, redrawn)
    return of_draws(rho, under_chance, redrawn_rho, exact=exact, n=len(kept), sizes=len(runs_of_size))


def of_draws(
    rho: float, under_chance: FloatArray, redrawn: FloatArray, *, exact: bool, n: int, sizes: int
) -> RankCorrelation:
    """From rho of the values as they are, under permutations, and of values redrawn within their errors."""
    low, high = np.quantile(redrawn, [0.025, 0.975])
    return RankCorrelation(
        rho=rho,
        p_falling=float((under_chance <= rho + SAME).mean()),
        p_rising=float((under_chance >= rho - SAME).mean()),
        p_two_sided=float((np.abs(under_chance) >= abs(rho) - SAME).mean()),
        exact=exact,
        low=float(low),
        high=float(high),
        n=n,
        sizes=sizes,
    )


def spearman(a: FloatArray, b: FloatArray) -> FloatArray:
    """Rank correlation of a with b along the last axis, ties by average rank; NaN where either has but one value."""
    from scipy.stats import rankdata

    x, y = rankdata(a, axis=-1), rankdata(b, axis=-1)
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    scale = (x * x).sum(axis=-1) * (y * y).sum(axis=-1)
    rho: FloatArray = np.where(scale > 0, (x * y).sum(axis=-1) / np.sqrt(np.where(scale > 0, scale, 1.0)), math.nan)
    return rho


def orders_of(n: int, most: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], bool]:
    """(orders, n): all n! orders, or ``most`` random ones where there are more; and whether it is all."""
    if math.factorial(n) <= most:
        return np.array(list(itertools.permutations(range(n))), dtype=np.intp), True
    return rng.permuted(np.tile(np.arange(n), (most, 1)), axis=1), False


def _in_other_orders(
    orders: NDArray[np.intp], runs: NDArray[np.int64], sums: FloatArray, ranks: FloatArray
) -> FloatArray:
    """(orders): rho with the sizes in other orders, ``orders[:, i]`` being the new place of the i-th.

    Args:
        orders: (orders, sizes).
        runs: (sizes) how many each has.
        sums: (sizes) of its runs' centred ranks by value.
        ranks: (runs) by value.
    """
    in_place = runs[orders.argsort(axis=1)]  # runs of the size in each place
    below = np.cumsum(in_place, axis=1) - in_place
    size_ranks = np.take_along_axis(below + (in_place + 1) / 2, orders, axis=1) - (len(ranks) + 1) / 2
    scale = (size_ranks**2 @ runs) * ((ranks - ranks.mean()) ** 2).sum()
    rho: FloatArray = size_ranks @ sums / np.sqrt(scale)
    return rho


def _correlation(x: FloatArray, ys: FloatArray) -> FloatArray:
    """Pearson's correlation of the ranks x with ranks along the last axis of ys."""
    a = x - x.mean()
    b = ys - ys.mean(axis=-1, keepdims=True)
    rho: FloatArray = b @ a / np.sqrt((a @ a) * (b * b).sum(axis=-1))
    return rho


def undefined_rank(reason: str, *, n: int, sizes: int) -> RankCorrelation:
    """None, with the reason."""
    nan = math.nan
    return RankCorrelation(
        rho=nan,
        p_falling=nan,
        p_rising=nan,
        p_two_sided=nan,
        exact=False,
        low=nan,
        high=nan,
        n=n,
        sizes=sizes,
        reason=reason,
    )
