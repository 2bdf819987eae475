"""The spread of averages of draws: disjoint groups, an exponent without bias, an interval that covers."""

import itertools
import math

import numpy as np
import pytest

from spectral_reach.studies.analysis.draws import lengths, power_law, single_variation, spread


@pytest.mark.parametrize("longest", [1, 2, 7, 12, 24, 40, 2000])
def test_each_length_divides_the_next(longest: int) -> None:
    chosen = lengths(longest)
    assert (chosen[0], chosen[-1]) == (1, longest)
    assert all(b % a == 0 and b > a for a, b in itertools.pairwise(chosen))


def test_averages_of_one_length_share_no_draw_and_the_spread_is_theirs() -> None:
    draws = np.random.default_rng(0).normal(10, 1, size=63)  # 3 too many for blocks of 12
    points = spread(draws, 12)
    assert [point.averaged for point in points] == [1, 3, 6, 12]
    for point in points:
        groups = [draws[i : i + point.averaged].mean() for i in range(0, 60, point.averaged)]
        assert point.means == pytest.approx(groups)
        assert point.variation == pytest.approx(np.std(groups, ddof=1) / draws[:60].mean())
        assert point.low < point.variation < point.high


def test_the_interval_of_a_variation_covers() -> None:
    random = np.random.default_rng(1)
    rows = {"normal": 10 + random.normal(size=(1000, 100)), "skewed": 6 + random.chisquare(8, size=(1000, 100)) / 2}
    for kind, single in (("normal", 0.1), ("skewed", 0.2)):
        hits = [
            [point.low <= single / math.sqrt(point.averaged) <= point.high for point in spread(row, 10)]
            for row in rows[kind]
        ]
        # Binomial: 95% of 1000 within three standard deviations, 0.7% each. Skewed draws taken for normal: 90%.
        assert np.mean(hits, axis=0) == pytest.approx(0.95, abs=0.021)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy"])
def test_independent_draws_fall_as_one_over_the_root_and_the_interval_says_so_as_often_as_it_should(kind: str) -> None:
    random = np.random.default_rng(2)
    shape = (1000, 240)
    rows = {
        "normal": lambda: 10 + random.normal(size=shape),
        "skewed": lambda: 3 + random.chisquare(4, size=shape),
        "heavy": lambda: 20 + random.standard_t(5, size=shape),
    }[kind]()
    laws = [power_law(row, 12) for row in rows]
    exponents = np.array([law.exponent for law in laws])
    assert exponents.mean() == pytest.approx(-0.5, abs=4 * exponents.std() / math.sqrt(len(laws)))
    covered = np.mean([law.low <= -0.5 <= law.high for law in laws])
    assert 0.929 <= covered <= 0.98  # three standard deviations; rather too often than too rarely


def test_draws_that_are_not_independent_are_found_out() -> None:
    # Every draw comes four times: averages of 2 and 4 are no better than one.
    draws = np.repeat(np.random.default_rng(3).normal(10, 1, size=120), 4)
    law = power_law(draws, 16)
    assert law.low > -0.5
    assert law.exponent > -0.4


def test_the_variation_of_one_draw_with_its_error() -> None:
    draws = np.random.default_rng(4).gamma(5.0, size=50)
    without = [np.delete(draws, i) for i in range(50)]
    values = np.array([each.std(ddof=1) / each.mean() for each in without])
    single = single_variation(draws)
    assert single.value == pytest.approx(draws.std(ddof=1) / draws.mean())
    assert single.stderr == pytest.approx(math.sqrt(49 / 50 * ((values - values.mean()) ** 2).sum()))


@pytest.mark.parametrize(
    ("draws", "longest", "says"),
    [
        (np.arange(1.0, 51.0), 10, "5 repetitions of 10 draws are too few, 6 are needed"),
        (np.arange(1.0, 51.0), 1, "averages of one draw alone show no fall"),
        (np.ones(100), 10, "the draws are all alike"),
    ],
)
def test_where_no_power_can_be_fitted_there_is_a_reason(draws: np.ndarray, longest: int, says: str) -> None:
    law = power_law(draws, longest)
    assert law.reason == says
    assert math.isnan(law.exponent)
    assert math.isnan(law.low)


def test_too_few_draws_have_no_variation() -> None:
    assert single_variation(np.arange(5.0)).reason == "5 draws are too few, 6 are needed"
    assert spread(np.arange(5.0), 4) == ()
