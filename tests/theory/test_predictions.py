"""The predictions, by routes of their own: eigenvalues, Monte Carlo, an integral over an angle."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from spectral_reach.theory.arc_cosine import arc_cosine_kernel
from spectral_reach.theory.predictions import (
    Predictions,
    expected_position,
    inverse_participation,
    normalised_eigenvalues,
)


def kernel(n=40):
    return arc_cosine_kernel(torch.randn(n, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def power_law(n, exponent):
    p = np.arange(1, n + 1) ** -exponent
    return p / p.sum()


def test_the_position_is_the_inverse_participation_ratio():
    values = np.linalg.eigvalsh(kernel().numpy())
    expected = (values**2).sum() / values.sum() ** 2
    assert inverse_participation(kernel()) == pytest.approx(expected, rel=1e-12)
    assert (normalised_eigenvalues(kernel()) ** 2).sum() == pytest.approx(expected, rel=1e-12)
    assert Predictions.of(kernel()) == Predictions(chi_loss=1.0, chi_net=1.0, chi_pos=inverse_participation(kernel()))


def test_normalised_eigenvalues_are_a_descending_distribution():
    p = normalised_eigenvalues(kernel())
    assert p.shape == (40,)
    assert p.sum() == pytest.approx(1, rel=1e-14)
    assert np.all(np.diff(p) <= 0)
    assert np.all(normalised_eigenvalues(torch.ones(5, 5)) >= 0)  # rank 1, and rounding


@pytest.mark.parametrize("teachers", [1, 2, 16])
@pytest.mark.parametrize("exponent", [0.5, 1.2, 2.5])
def test_the_expected_position_is_that_of_random_targets(teachers, exponent):
    p, draws = power_law(50, exponent), 40_000
    weights = np.random.default_rng(0).chisquare(teachers, (draws, 50))
    positions = (weights @ p**2) / (weights @ p)
    error = positions.std(ddof=1) / math.sqrt(draws)
    assert abs(expected_position(p, teachers=teachers) - positions.mean()) < 4 * error


def test_two_modes_are_an_integral_over_an_angle():
    p, q = 0.8, 0.2

    def position(angle):
        a, b = p * math.cos(angle) ** 2, q * math.sin(angle) ** 2
        return (p * a + q * b) / (a + b)

    expected = quad(position, 0, math.pi / 2, epsabs=1e-13)[0] / (math.pi / 2)
    assert expected_position(np.array([p, q])) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("modes", [1, 2, 7, 400])
@pytest.mark.parametrize("teachers", [1, 100])
def test_equal_modes_leave_no_choice(modes, teachers):
    assert expected_position(np.full(modes, 1 / modes), teachers=teachers) == pytest.approx(1 / modes, rel=1e-8)


def test_many_teachers_reach_the_inverse_participation_ratio_from_below():
    p = power_law(300, 1.4)
    ratios = [expected_position(p, teachers=T) / (p**2).sum() for T in (1, 10, 100, 1000, 10_000)]
    assert np.all(np.diff(ratios) > 0)
    assert ratios[0] < 0.9
    # To first order in 1 / T: -2 / T (sum p^3 / sum p^2 - sum p^2).
    bias = -2 * ((p**3).sum() / (p**2).sum() - (p**2).sum())
    assert (ratios[3] - 1) * 1000 == pytest.approx(bias, rel=0.01)


def test_empty_modes_change_nothing():
    p = power_law(20, 1.0)
    assert expected_position(np.append(p, 0.0)) == expected_position(p)


def test_what_is_no_distribution_is_refused():
    for p in (np.array([0.5, 0.6]), np.array([1.5, -0.5]), np.array([[1.0]]), np.array([math.nan, 1.0])):
        with pytest.raises(ValueError, match="expected eigenvalues >= 0 with sum 1"):
            expected_position(p)
    with pytest.raises(ValueError, match="teachers is 0"):
        expected_position(np.array([1.0]), teachers=0)
