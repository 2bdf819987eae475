"""Gaussian-process targets: the covariance of the kernel, and one scale for all."""

import math

import pytest
import torch

from spectral_reach.theory.arc_cosine import arc_cosine_kernel
from spectral_reach.theory.gp_teacher import draw_teachers


def kernel(n=8):
    return arc_cosine_kernel(torch.randn(n, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def test_modes_have_the_eigenvalues_for_variances():
    K, T = kernel(), 40_000
    y = draw_teachers(K, T, torch.Generator().manual_seed(1))
    values, vectors = torch.linalg.eigh(K)
    squares = (y @ vectors).square().mean(0)
    expected = values / values.mean()  # a mean square of 1
    assert bool(((squares / expected - 1).abs() < 4 * math.sqrt(2 / T) * 1.1).all())
    covariance = y.T @ y / T
    assert float((covariance - K / values.mean()).abs().max()) < 0.05


def test_all_teachers_share_one_scale():
    y = draw_teachers(kernel(), 5, torch.Generator().manual_seed(2))
    assert y.shape == (5, 8)
    assert float(y.square().mean()) == pytest.approx(1, rel=1e-13)
    assert float(y.square().mean(1).std()) > 0.1  # and none is scaled on its own
    assert float(y.mean().abs()) > 1e-3  # nor is a mean taken out


def test_a_kernel_without_full_rank_has_teachers_in_its_range():
    one = torch.ones(6, 6, dtype=torch.float64)
    y = draw_teachers(one, 4, torch.Generator().manual_seed(3))
    assert float((y - y[:, :1]).abs().max()) < 1e-3


def test_bad_kernels_are_named():
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected a square matrix"):
        draw_teachers(torch.ones(2, 3), 1, generator)
    with pytest.raises(ValueError, match="not finite and symmetric"):
        draw_teachers(torch.tensor([[1.0, 0.5], [0.4, 1.0]]), 1, generator)
    with pytest.raises(ValueError, match="not finite and symmetric"):
        draw_teachers(torch.full((2, 2), math.nan), 1, generator)
    with pytest.raises(ValueError, match="negative eigenvalues"):
        draw_teachers(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 1, generator)
    with pytest.raises(ValueError, match="teachers is 0"):
        draw_teachers(torch.eye(2), 0, generator)
