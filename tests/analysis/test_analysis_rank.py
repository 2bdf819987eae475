"""Spearman's correlation, its exact permutation p-values, and its interval, against independent routes."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.rank import rank_correlation


def estimates(values, stderr=0.0):
    return [Estimate(value=float(v), stderr=stderr, n=10) for v in values]


CASES = {
    "falling": ([10, 20, 30, 40, 50], [5.0, 4.0, 3.0, 2.0, 1.0]),
    "rising": ([10, 20, 30, 40], [1.0, 2.0, 3.0, 4.0]),
    "mixed": ([10, 20, 30, 40, 50, 60], [2.0, 6.0, 1.0, 5.0, 3.0, 4.0]),
    "equal values": ([10, 20, 30, 40, 50], [1.0, 1.0, 3.0, 2.0, 2.0]),
    "several seeds": ([10, 10, 20, 20, 30, 30], [6.0, 5.5, 5.7, 3.0, 2.0, 1.0]),
    "more seeds of some sizes": ([10, 10, 10, 20, 30, 30, 40, 40], [6.0, 5.5, 7.0, 5.7, 3.0, 2.0, 1.0, 5.6]),
    "seven": ([1, 2, 3, 4, 5, 6, 7], [3.0, 1.0, 2.0, 7.0, 5.0, 6.0, 4.0]),
}


@pytest.mark.parametrize("case", CASES)
def test_rho_and_exact_p_values_against_brute_force(case):
    sizes, values = CASES[case]
    found = rank_correlation(sizes, estimates(values))
    rho = spearmanr(sizes, values).statistic
    assert found.rho == pytest.approx(rho, abs=1e-12)
    # Sizes change places, each with all its runs.
    different = sorted(set(sizes))
    orders = [dict(zip(different, order, strict=True)) for order in itertools.permutations(different)]
    chance = [spearmanr([order[size] for size in sizes], values).statistic for order in orders]
    assert len(chance) <= 5040
    assert found.sizes == len(different)
    assert found.exact
    assert found.p_falling == pytest.approx(sum(r <= rho + 1e-10 for r in chance) / len(chance), abs=1e-12)
    assert found.p_rising == pytest.approx(sum(r >= rho - 1e-10 for r in chance) / len(chance), abs=1e-12)
    assert found.p_two_sided == pytest.approx(sum(abs(r) >= abs(rho) - 1e-10 for r in chance) / len(chance), abs=1e-12)


def test_the_clearest_order_of_n_has_p_of_one_in_n_factorial():
    for n in range(3, 9):
        found = rank_correlation(range(n), estimates(range(n, 0, -1)))
        assert found.p_falling == pytest.approx(1 / math.factorial(n), rel=1e-12)
        assert found.p_rising == 1.0


def test_seeds_are_no_evidence_on_what_size_does():
    """However many runs two or three sizes have: any two differ in one direction or the other."""
    for n in (2, 3):
        sizes = [size for size in range(n) for _ in range(20)]
        found = rank_correlation(sizes, estimates(-10.0 * np.array(sizes) + np.linspace(0, 1, len(sizes))))
        assert found.p_falling == pytest.approx(1 / math.factorial(n))


def test_many_sizes_use_random_orders_that_agree_with_the_t_approximation():
    rng = np.random.default_rng(3)
    sizes = np.arange(14)
    values = -0.25 * sizes + rng.standard_normal(14) * 3
    found = rank_correlation(sizes.tolist(), estimates(values))
    assert not found.exact
    assert found.n == 14
    reference = spearmanr(sizes, values, alternative="less").pvalue
    # The t approximation at n = 14 is good to a few per cent of p; random orders err by sqrt(p / 200000).
    assert 0.01 < reference < 0.5
    assert found.p_falling == pytest.approx(reference, rel=0.05)


def test_without_errors_the_interval_is_a_point_and_with_large_ones_it_is_wide():
    sizes, values = CASES["falling"]
    sharp = rank_correlation(sizes, estimates(values))
    assert (sharp.low, sharp.high) == pytest.approx((-1, -1))
    blurred = rank_correlation(sizes, estimates(values, stderr=5.0))
    assert blurred.rho == sharp.rho
    assert blurred.low < -0.5
    assert blurred.high > 0.3


def test_the_interval_is_that_of_values_redrawn_within_their_errors():
    # Two close values far from the third: rho is -1 or -0.5 as the two swap or not, with P(swap) = P(z < -1 / sqrt 2).
    sizes = [1, 2, 3]
    found = rank_correlation(sizes, estimates([10.0, 2.0, 1.0], stderr=1.0), draws=20_000)
    assert (found.low, found.high) == pytest.approx((-1.0, -0.5))
    apart = rank_correlation(sizes, estimates([10.0, 4.0, 1.0], stderr=1.0), draws=20_000)  # P(swap) = 1.7%
    assert (apart.low, apart.high) == pytest.approx((-1.0, -1.0))


def test_runs_without_a_value_are_left_out():
    sizes, values = CASES["falling"]
    extra = [*estimates(values), Estimate.missing("unfinished: 3 of 9 steps")]
    assert rank_correlation([*sizes, 60], extra) == rank_correlation(sizes, estimates(values))


@pytest.mark.parametrize(
    ("sizes", "values", "reason"),
    [
        ([1, 2], [3.0, 4.0], "2 runs have a value and an error, 3 are needed"),
        ([5, 5, 5], [1.0, 2.0, 3.0], "all sizes are equal"),
        ([1, 2, 3], [7.0, 7.0, 7.0], "all values are equal"),
    ],
)
def test_what_cannot_be_correlated_has_a_reason(sizes, values, reason):
    found = rank_correlation(sizes, estimates(values))
    assert math.isnan(found.rho)
    assert math.isnan(found.p_falling)
    assert reason in found.reason


def test_the_reasons_of_those_left_out_are_told():
    found = rank_correlation([1, 2, 3], [*estimates([1.0, 2.0]), Estimate.missing("unfinished: 3 of 9 steps")])
    assert found.reason.endswith("left out: unfinished: 3 of 9 steps")


def test_the_same_seed_gives_the_same_numbers():
    sizes, values = CASES["mixed"]
    first, second = (rank_correlation(sizes, estimates(values, stderr=1.0), seed=4) for _ in range(2))
    assert first == second
