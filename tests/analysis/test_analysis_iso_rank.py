"""Does position follow loss at fixed compute? Against brute force, and honest where nothing follows."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.iso_rank import iso_rank
from spectral_reach.studies.analysis.rank import rank_correlation

NAN = math.nan


def rank(loss, position, error=0.0, **settings):
    loss, position = np.array(loss, dtype=float), np.array(position, dtype=float)
    return iso_rank(loss, np.full(loss.shape, error), position, np.full(position.shape, error), **settings)


def test_one_budget_is_spearmans_correlation_with_its_exact_p_values():
    loss, position = [4.0, 1.0, 3.0, 2.0, 5.0], [2.0, 1.0, 5.0, 3.0, 4.0]
    found = rank([loss], [position])
    plain = rank_correlation([int(v) for v in loss], [Estimate(value=v, stderr=0.0, n=2) for v in position])
    assert found.exact
    assert (found.rho, found.n) == (pytest.approx(plain.rho, abs=1e-12), 5)
    assert found.p_rising == pytest.approx(plain.p_rising, abs=1e-12)
    assert found.p_falling == pytest.approx(plain.p_falling, abs=1e-12)
    assert found.p_two_sided == pytest.approx(plain.p_two_sided, abs=1e-12)


def test_several_budgets_share_an_order_and_lack_sizes():
    loss = np.array([[1.0, 2.0, 3.0, NAN], [2.0, 1.0, 4.0, 3.0], [NAN, 2.0, 1.0, 3.0]])
    position = np.array([[1.0, 3.0, 2.0, 9.0], [1.0, 2.0, 3.0, 4.0], [5.0, 2.0, 1.0, 3.0]])
    present = [[0, 1, 2], [0, 1, 2, 3], [1, 2, 3]]
    weights = np.array([2, 3, 2]) / 7

    def statistic(order):
        total = 0.0
        for row, columns in enumerate(present):
            # The sizes of the budget in the shared order; the place in it is the size whose position one gets.
            ranks = np.argsort(np.argsort([order[c] for c in columns]))
            moved = position[row, columns][ranks]
            total += weights[row] * spearmanr(loss[row, columns], moved).statistic
        return total

    chance = [statistic(order) for order in itertools.permutations(range(4))]
    found = rank(loss, position)
    assert found.rho == pytest.approx(statistic(range(4)), abs=1e-12)
    assert found.p_rising == pytest.approx(np.mean([c >= found.rho - 1e-9 for c in chance]), abs=1e-12)
    assert found.n == 4


@pytest.mark.parametrize("n", [3, 4, 6])
def test_budgets_are_no_evidence_of_their_own(n):
    loss = [list(range(n))] * 5
    found = rank(loss, loss)
    assert found.rho == pytest.approx(1)
    assert found.p_rising == pytest.approx(1 / math.factorial(n))
    assert (found.low, found.high) == (pytest.approx(1), pytest.approx(1))


def test_where_nothing_follows_five_in_a_hundred_are_significant_at_most():
    """Sizes with levels of their own, alike at all budgets: the case in which counting budgets would deceive."""
    repeats, false = 200, 0
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        loss, position = (rng.standard_normal(5) + 0.3 * rng.standard_normal((4, 5)) for _ in range(2))
        false += rank(loss, position, draws=10).p_rising <= 0.05
    assert false <= binom.ppf(0.99, repeats, 0.05)
    assert false >= binom.ppf(0.01, repeats, 0.02)


def test_errors_open_the_interval():
    loss = [[1.0, 2.0, 3.0, 4.0, 5.0]] * 3
    sure, unsure = rank(loss, loss, 0.01), rank(loss, loss, 3.0)
    assert (sure.low, sure.high) == (pytest.approx(1), pytest.approx(1))
    assert unsure.low < 0
    assert unsure.rho == pytest.approx(1)


def test_many_sizes_use_random_orders():
    rng = np.random.default_rng(0)
    loss = rng.standard_normal((1, 12))
    position = 0.5 * loss + rng.standard_normal((1, 12))
    found = rank(loss, position)
    assert not found.exact
    reference = spearmanr(loss[0], position[0], alternative="greater").pvalue
    assert found.p_rising == pytest.approx(reference, rel=0.1, abs=0.002)


@pytest.mark.parametrize(
    ("loss", "position"),
    [
        (np.empty((0, 0)), np.empty((0, 0))),
        ([[1.0, 2.0]], [[1.0, 2.0]]),
        ([[1.0, NAN, 2.0]], [[1.0, 2.0, 3.0]]),
        ([[1.0, 1.0, 1.0]], [[1.0, 2.0, 3.0]]),
    ],
)
def test_too_few_sizes_have_a_reason(loss, position):
    found = rank(loss, position)
    assert math.isnan(found.rho)
    assert math.isnan(found.p_rising)
    assert "at no compute do 3 sizes have" in found.reason
