"""Power-law Gaussian inputs: the covariance that was asked for, and no exponent that was not meant."""

import math

import pytest
import torch

from spectral_reach.theory.gaussian_data import PowerLawGaussian


@pytest.mark.parametrize("exponent", [1.0, 1.7, 3.0])
def test_the_eigenvalues_are_a_power_law_of_trace_d(exponent):
    eigenvalues = PowerLawGaussian(dimension=50, exponent=exponent).eigenvalues
    assert float(eigenvalues.sum()) == pytest.approx(50, rel=1e-14)
    for k in (2, 10, 50):
        assert float(eigenvalues[0] / eigenvalues[k - 1]) == pytest.approx(k**exponent, rel=1e-12)


def test_draws_have_the_covariance():
    n = 40_000
    data = PowerLawGaussian(dimension=5, exponent=1.5)
    x = data.draw(n, torch.Generator().manual_seed(0))
    assert x.shape == (n, 5)
    assert x.dtype == torch.float64
    s = data.eigenvalues
    # An entry of a sample covariance has variance (s_i s_j + S_ij^2) / n.
    errors = ((torch.outer(s, s) + torch.diag(s**2)) / n).sqrt()
    assert bool(((x.T @ x / n - torch.diag(s)).abs() < 4 * errors).all())
    assert bool((x.mean(0).abs() < 4 * (s / n).sqrt()).all())


def test_squared_norms_scatter_as_stated():
    data = PowerLawGaussian(dimension=30, exponent=2.0)
    squares = data.draw(40_000, torch.Generator().manual_seed(1)).square().sum(1) / 30
    assert float(squares.mean()) == pytest.approx(1, abs=4 * data.norm_spread / math.sqrt(40_000))
    assert float(squares.std()) == pytest.approx(data.norm_spread, rel=0.04)


@pytest.mark.parametrize("exponent", [0.99, 3.01, math.nan, -1.0])
def test_an_exponent_out_of_range_is_refused(exponent):
    with pytest.raises(ValueError, match=r"exponent is .*; expected 1 to 3"):
        PowerLawGaussian(dimension=10, exponent=exponent)


def test_no_dimension_or_no_input_is_refused():
    with pytest.raises(ValueError, match="dimension is 0; expected at least 1"):
        PowerLawGaussian(dimension=0, exponent=1.0)
    with pytest.raises(ValueError, match="n is 0; expected at least 1 input"):
        PowerLawGaussian(dimension=3, exponent=1.0).draw(0, torch.Generator())
