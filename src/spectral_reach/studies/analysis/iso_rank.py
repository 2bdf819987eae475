"""At fixed compute, does spectral position follow test loss? Spearman's correlation over sizes, within budgets.

At every budget the sizes are ranked by loss and by position; rho is the mean of the budgets' rank correlations,
weighted with their sizes less one (the inverse of the variance of each under chance). Comparing within budgets takes
out what both quantities owe to compute alone.

**Chance.** The sizes' positions are permuted over the sizes, by one order of all sizes that every budget shares
(where a budget lacks some, by the order of those it has), since a size's position at one budget is much the same at
the next: budgets count as no evidence of their own. With k sizes, then, no p-value is below 1 / k!, and three can
prove nothing.

**Interval.** Every value is redrawn within its standard error, by one deviate a size and quantity for all budgets, as
the deviation of a seed would be: wider than for independent errors. It does not cover other sizes.
"""

from __future__ import annotations

import numpy as np

from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.analysis.rank import RankCorrelation, of_draws, orders_of, spearman, undefined_rank

PERMUTATIONS = 50_000  # enough to enumerate all orders of eight sizes


def iso_rank(
    loss: FloatArray,
    loss_stderr: FloatArray,
    position: FloatArray,
    position_stderr: FloatArray,
    *,
    seed: int = 0,
    draws: int = 2000,
) -> RankCorrelation:
    """The correlation of loss with position; ``n`` counts sizes, ``p_rising`` is that of "position follows loss".

    Args:
        loss: (budgets, sizes), NaN where a size has none at a budget.
        loss_stderr: (budgets, sizes).
        position: (budgets, sizes).
        position_stderr: (budgets, sizes).
        seed: of the draws, and of the orders where there are too many to enumerate.
        draws: for the interval.
    """
    present = np.isfinite(loss) & np.isfinite(loss_stderr) & np.isfinite(position) & np.isfinite(position_stderr)
    used = [
        (row, np.flatnonzero(here))
        for row, here in enumerate(present)
        if here.sum() >= 3 and len(set(loss[row, here])) > 1 and len(set(position[row, here])) > 1
    ]
    if not used:
        most = int(present.sum(axis=1).max(initial=0))
        return undefined_rank(_too_few(most), n=most, sizes=most)
    sizes = np.unique(np.concatenate([columns for _, columns in used]))
    rng = np.random.default_rng(seed)
    orders, exact = orders_of(len(sizes), PERMUTATIONS, rng)
    place = np.full(loss.shape[1], -1)
    place[sizes] = np.arange(len(sizes))
    total = sum(len(columns) - 1 for _, columns in used)
    deviates = rng.standard_normal((2, draws, loss.shape[1]))
    rho, under_chance, redrawn = 0.0, np.zeros(len(orders)), np.zeros(draws)
    for row, columns in used:
        weight = (len(columns) - 1) / total
        a, b = loss[row, columns], position[row, columns]
        rho += weight * float(spearman(a, b))
        chosen = orders[:, place[columns]].argsort(axis=1).argsort(axis=1)
        under_chance += weight * spearman(a, b[chosen])
        redrawn += weight * spearman(
            a + loss_stderr[row, columns] * deviates[0][:, columns],
            b + position_stderr[row, columns] * deviates[1][:, columns],
        )
    if not exact:
        under_chance = np.append(under_chance, rho)  # so that no p-value is 0
    return of_draws(rho, under_chance, redrawn, exact=exact, n=len(sizes), sizes=len(sizes))


def _too_few(most: int) -> str:
    return (
        "at no compute do 3 sizes have a loss and a position with errors, not all alike: "
        f"at most {most} sizes of a compute have both"
    )
