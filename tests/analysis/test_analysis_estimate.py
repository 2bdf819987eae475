"""Means and ratios of means: values by direct formula, errors by simulated repeats."""

import math

import numpy as np
import pytest

from spectral_reach.studies.analysis.estimate import Estimate, mean, ratio_of_means


def test_mean_and_its_standard_error_by_hand():
    estimate = mean(np.array([1.0, 2.0, 6.0]))
    assert estimate.value == 3.0
    # Sample variance (4 + 1 + 9) / 2 = 7.
    assert estimate.stderr == pytest.approx(math.sqrt(7 / 3), rel=1e-15)
    assert (estimate.n, estimate.reason) == (3, None)


def test_values_that_are_not_finite_are_left_out_and_not_counted():
    assert mean(np.array([1.0, math.nan, 3.0])) == mean(np.array([1.0, 3.0]))
    whole = ratio_of_means(np.array([1.0, 2.0]), np.array([4.0, 5.0]))
    assert ratio_of_means(np.array([1.0, math.nan, 7.0, 2.0]), np.array([4.0, 9.0, math.inf, 5.0])) == whole


def test_ratio_of_means_is_not_the_mean_of_ratios():
    above, below = np.array([1.0, -2.0, 5.0, 0.5]), np.array([2.0, 1.0, 4.0, 1.0])
    estimate = ratio_of_means(above, below)
    assert estimate.value == pytest.approx(4.5 / 8, rel=1e-15)
    assert abs(estimate.value - (above / below).mean()) > 0.3


def test_jackknife_error_by_the_literal_definition():
    above, below = np.array([1.0, -2.0, 5.0, 0.5]), np.array([2.0, 1.0, 4.0, 1.0])
    without = [np.delete(above, i).mean() / np.delete(below, i).mean() for i in range(4)]
    expected = math.sqrt(3 / 4 * sum((r - np.mean(without)) ** 2 for r in without))
    assert ratio_of_means(above, below).stderr == pytest.approx(expected, rel=1e-12)


def test_with_a_constant_denominator_the_jackknife_is_the_error_of_a_mean():
    values = np.array([0.3, 1.9, -0.4, 2.2, 0.1])
    ratio, plain = ratio_of_means(values, np.full(5, 4.0)), mean(values / 4)
    assert ratio.value == pytest.approx(plain.value, rel=1e-14)
    assert ratio.stderr == pytest.approx(plain.stderr, rel=1e-14)


def test_jackknife_error_is_the_spread_over_repeats():
    rng = np.random.default_rng(0)
    n, repeats = 12, 4000
    below = 1 + 0.2 * rng.standard_normal((repeats, n))
    above = 0.5 * below + 0.3 * rng.standard_normal((repeats, n))
    estimates = [ratio_of_means(a, b) for a, b in zip(above, below, strict=True)]
    spread = np.std([e.value for e in estimates], ddof=1)
    mean_square = math.sqrt(np.mean([e.stderr**2 for e in estimates]))
    # A variance from 4000 values is known to sqrt(2 / 4000) = 2.2%, its root to 1.1%; four of these, and the
    # jackknife's own bias of order 1 / n of the noise of the denominator, 0.04 / 12.
    assert mean_square == pytest.approx(spread, rel=4 * 0.011 + 0.04 / 12)


def test_in_sequence_the_jackknife_leaves_out_blocks_of_neighbours():
    rng = np.random.default_rng(1)
    above, below = rng.standard_normal(27), 2 + rng.random(27)
    blocks = [range(3 * i, 3 * i + 3) for i in range(9)]  # 27^(1/3) = 3
    without = [np.delete(above, block).mean() / np.delete(below, block).mean() for block in blocks]
    expected = math.sqrt(8 / 9 * sum((r - np.mean(without)) ** 2 for r in without))
    assert ratio_of_means(above, below, in_sequence=True).stderr == pytest.approx(expected, rel=1e-12)
    few = slice(0, 15)  # fewer than 8 blocks of 2
    assert ratio_of_means(above[few], below[few], in_sequence=True) == ratio_of_means(above[few], below[few])


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, 0.95, 1.05), (0.3, 0.82, 0.96)])
def test_in_sequence_the_error_allows_for_neighbours_alike(correlation, low, high):
    rng = np.random.default_rng(2)
    repeats, n = 3000, 34
    values = rng.standard_normal((repeats, n))
    for i in range(1, n):
        values[:, i] = correlation * values[:, i - 1] + math.sqrt(1 - correlation**2) * values[:, i]
    blocked = [mean(row, in_sequence=True) for row in values]
    spread = np.std([e.value for e in blocked], ddof=1)  # known to 1.3%
    error = math.sqrt(np.mean([e.stderr**2 for e in blocked]))
    assert low < error / spread < high
    plain = math.sqrt(np.mean([mean(row).stderr ** 2 for row in values]))
    assert plain / spread < 0.8 or correlation == 0


@pytest.mark.parametrize(
    ("values", "value", "reason"),
    [
        ([], math.nan, "there is no measurement"),
        ([math.nan, math.nan], math.nan, "none of the 2 measurements is defined"),
        ([2.5], 2.5, "one measurement has no spread"),
    ],
)
def test_too_few_values_have_a_reason(values, value, reason):
    for estimate in (mean(np.array(values)), ratio_of_means(np.array(values), np.ones(len(values)))):
        assert estimate.value == value or (math.isnan(estimate.value) and math.isnan(value))
        assert math.isnan(estimate.stderr)
        assert reason in estimate.reason
        assert not estimate.is_defined


def test_a_denominator_of_zero_has_a_reason():
    estimate = ratio_of_means(np.array([1.0, 2.0]), np.zeros(2))
    assert math.isnan(estimate.value)
    assert "zero in every measurement" in estimate.reason
    one_left = ratio_of_means(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    assert one_left.value == 3.0
    assert math.isnan(one_left.stderr)
    assert "all but one" in one_left.reason


def test_an_estimate_without_a_reason_for_its_nan_is_refused():
    with pytest.raises(AssertionError, match="with reason None"):
        Estimate(value=math.nan, stderr=0.1, n=3)
