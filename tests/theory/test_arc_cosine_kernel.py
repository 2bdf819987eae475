"""The arc-cosine kernel against Monte Carlo, against direct integration, and at the angles where formulas break."""

import math

import pytest
import torch
from scipy.integrate import dblquad

from spectral_reach.theory.arc_cosine import arc_cosine_kernel


def random_inputs(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_mean_over_random_features():
    x, d, draws = random_inputs(6, 3), 3, 400_000
    w = torch.randn(draws, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / math.sqrt(d)
    features = math.sqrt(2) * (x @ w.T).clamp(min=0)
    products = features[:, None, :] * features[None, :, :]
    errors = products.std(2) / math.sqrt(draws)
    assert bool(((products.mean(2) - arc_cosine_kernel(x)).abs() < 4 * errors).all())


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2, 2.5, math.pi])
def test_it_is_the_integral_over_the_plane_of_two_inputs(angle):
    lengths = (1.3, 0.4)
    x = torch.tensor([[lengths[0], 0.0]], dtype=torch.float64)
    y = lengths[1] * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)

    def integrand(radius, direction):
        # w ~ N(0, I / 2) in polar coordinates; the two ReLUs are both open between these directions.
        a = lengths[0] * radius * math.cos(direction)
        b = lengths[1] * radius * math.cos(direction - angle)
        return 2 * a * b * math.exp(-(radius**2)) / math.pi * radius

    expected, _ = dblquad(integrand, angle - math.pi / 2, math.pi / 2, 0, 8, epsabs=1e-13)
    assert float(arc_cosine_kernel(x, y)) == pytest.approx(expected, abs=1e-11)


def test_the_diagonal_is_the_squared_norm_over_d():
    x = random_inputs(20, 7)
    torch.testing.assert_close(arc_cosine_kernel(x).diagonal(), x.square().sum(1) / 7, rtol=1e-13, atol=0)


def test_parallel_opposite_and_zero_inputs():
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0], [-1.0, -2.0], [0.0, 0.0]], dtype=torch.float64)
    kernel = arc_cosine_kernel(x)
    assert float(kernel[0, 1]) == pytest.approx(3 * 5 / 2, rel=1e-12)
    assert float(kernel[0, 2]) == pytest.approx(0, abs=1e-12)
    assert bool((kernel[3] == 0).all())


def test_it_is_symmetric_and_positive():
    kernel = arc_cosine_kernel(random_inputs(60, 4))
    assert torch.equal(kernel, kernel.T)
    assert float(torch.linalg.eigvalsh(kernel)[0]) > -1e-12


def test_blocks_are_those_of_the_whole():
    x = random_inputs(9, 4)
    torch.testing.assert_close(arc_cosine_kernel(x[:3], x[3:]), arc_cosine_kernel(x)[:3, 3:], rtol=1e-12, atol=1e-14)


def test_half_precision_inputs_are_taken_in_float64():
    x = random_inputs(4, 3).to(torch.float16)
    assert torch.equal(arc_cosine_kernel(x), arc_cosine_kernel(x.to(torch.float64)))


def test_bad_inputs_are_named():
    with pytest.raises(ValueError, match=r"inputs have shape \(3,\); expected \(number of inputs, dimension\)"):
        arc_cosine_kernel(torch.ones(3))
    with pytest.raises(ValueError, match="inputs have dimension 2 and others 3; expected the same"):
        arc_cosine_kernel(torch.ones(4, 2), torch.ones(4, 3))
    with pytest.raises(ValueError, match="others are not finite"):
        arc_cosine_kernel(torch.ones(4, 2), torch.full((1, 2), math.nan))
