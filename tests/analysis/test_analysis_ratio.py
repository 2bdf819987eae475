"""Fieller's interval: its ends solve the equation that defines it, it covers, and it says when there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.ratio import ratio


def estimate(value: float, stderr: float) -> Estimate:
    return Estimate(value=value, stderr=stderr, n=5)


def test_the_ends_are_where_the_difference_leaves_its_error() -> None:
    found = ratio(estimate(3.0, 0.4), estimate(2.0, 0.3), degrees=6).interval
    factor = t.ppf(0.975, 6)
    assert found.value == 1.5
    for end in (found.low, found.high):
        assert abs(3.0 - end * 2.0) == pytest.approx(factor * math.hypot(0.4, end * 0.3))
    assert found.low < 1.5 < found.high


def test_an_exact_denominator_only_scales() -> None:
    found = ratio(estimate(3.0, 0.5), estimate(2.0, 0.0), degrees=10).interval
    assert (found.low, found.high) == pytest.approx((1.5 - t.ppf(0.975, 10) / 4, 1.5 + t.ppf(0.975, 10) / 4))


def test_it_covers() -> None:
    rng = np.random.default_rng(0)
    draws = 4000
    above, below = 3 + 0.6 * rng.standard_normal(draws), 2 + 0.3 * rng.standard_normal(draws)
    found = [ratio(estimate(a, 0.6), estimate(b, 0.3), 10**6).interval for a, b in zip(above, below, strict=True)]
    hits = np.mean([each.low <= 1.5 <= each.high for each in found])
    assert abs(hits - 0.95) < 4 * math.sqrt(0.95 * 0.05 / draws)


@pytest.mark.parametrize("below", [(0.1, 0.1), (-2.0, 0.1)])
def test_a_denominator_that_may_be_0_gives_no_ratio(below: tuple[float, float]) -> None:
    found = ratio(estimate(1.0, 0.1), estimate(*below), degrees=4)
    assert math.isnan(found.interval.value)
    assert found.reason is not None
    assert "not clearly above 0" in found.reason


def test_what_is_missing_is_said() -> None:
    found = ratio(Estimate.missing("not run"), estimate(1.0, 0.1), degrees=4)
    assert math.isnan(found.interval.value)
    assert found.reason == "not run"
    assert ratio(estimate(1.0, 0.1), estimate(0.0, 0.1), degrees=4).reason == "the denominator is 0"
    alone = Estimate(value=2.0, stderr=math.nan, n=1, reason="one evaluation")
    found = ratio(alone, estimate(1.0, 0.1), degrees=4)
    assert found.interval.value == 2.0
    assert math.isnan(found.interval.low)
    assert found.reason == "one evaluation"
