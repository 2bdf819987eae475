"""The best size at a fixed compute: parabolas are found, the interval covers, edges and flat curves say so."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.iso_minimum import Place, iso_minimum

SIZES = [10_000, 20_000, 50_000, 90_000, 200_000]


def estimates(values, relative: float = 1e-4):
    return [Estimate(value=float(v), stderr=relative * float(v), n=9) for v in values]


def valley(best: float, bend: float = 0.05):
    return 3 * np.exp(bend * np.log(np.array(SIZES) / best) ** 2)


@pytest.mark.parametrize("best", [22_000, 40_000, 52_000, 100_000])
def test_a_parabola_in_log_log_is_found_exactly(best):
    found = iso_minimum(SIZES, estimates(valley(best)))
    assert found.place is Place.INTERIOR
    assert found.parameters.value == pytest.approx(best, rel=1e-9)
    assert found.value == pytest.approx(3, rel=1e-9)
    assert found.share_interior == 1
    assert found.reason is None


@pytest.mark.parametrize(("best", "place", "size"), [(2_000, Place.SMALLEST, 10_000), (9e5, Place.LARGEST, 200_000)])
def test_a_curve_that_falls_to_an_edge_says_so(best, place, size):
    values = valley(best)
    found = iso_minimum(SIZES, estimates(values))
    assert found.place is place
    assert (found.parameters.value, found.parameters.low, found.parameters.high) == (size, size, size)
    assert found.value == pytest.approx(values.min(), rel=1e-12)
    assert found.share_interior == 0


def test_the_interval_covers_the_best_size():
    repeats, hits = 300, 0
    for seed in range(repeats):
        noisy = valley(45_000) * np.exp(0.003 * np.random.default_rng(seed).standard_normal(5))
        found = iso_minimum(SIZES, estimates(noisy, 0.003), seed=seed, draws=300)
        hits += found.parameters.low <= 45_000 <= found.parameters.high
    assert binom.ppf(0.01, repeats, 0.90) <= hits <= binom.ppf(0.99, repeats, 0.98)


def test_a_flat_curve_has_an_interval_from_edge_to_edge():
    found = iso_minimum(SIZES, estimates([3.0, 3.01, 2.99, 3.0, 3.01], 0.02))
    assert found.place is Place.INTERIOR
    assert (found.parameters.low, found.parameters.high) == (SIZES[0], SIZES[-1])
    assert found.share_interior < 0.8


def test_sizes_without_a_value_or_an_error_are_left_out():
    values = estimates(valley(45_000))
    values[0] = Estimate.missing("it has none")
    assert iso_minimum(SIZES, values).parameters.value == pytest.approx(45_000, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([Estimate.missing("none")] * 3 + estimates([1, 2]), "2 sizes have a value and an error, 3 are needed"),
        (estimates([1e-6, 2e-7, -1e-8, 3e-7, 1e-6], -0.5), "the value of 50000 parameters is not above 0: -1e-08 ±"),
    ],
)
def test_what_has_no_minimum_has_a_reason(values, reason):
    found = iso_minimum(SIZES, values)
    assert reason in found.reason
    assert found.place is None
    assert all(math.isnan(v) for v in (found.value, found.parameters.value, found.parameters.low))
