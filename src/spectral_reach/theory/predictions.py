"""What theory says that random features measure at the start, before anything is measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Components of the decomposition with loss 0.5 (f - y)^2 at f = 0 and standardised Gaussian-process targets.

    Attributes:
        chi_loss: 1: the residual is -y, and the targets have mean square 1.
        chi_net: 1, the mean of ||x||^2 / d.
        chi_pos: sum_k p_k^2, the inverse participation ratio of the limit kernel's spectrum on these inputs.
    """

    chi_loss: float
    chi_net: float
    chi_pos: float

    @classmethod
    def of(cls, kernel_nn: Tensor) -> Predictions:
        """From the limit kernel on the inputs, (n, n)."""
        return cls(chi_loss=1.0, chi_net=1.0, chi_pos=inverse_participation(kernel_nn))


def normalised_eigenvalues(kernel_nn: Tensor) -> FloatArray:
    """p = lambda / Tr K, (n,) float64, descending, with sum 1; rounding below zero is set to zero."""
    values = torch.linalg.eigvalsh(kernel_nn.to(torch.float64)).flip(0).clamp(min=0)
    p: FloatArray = (values / values.sum()).numpy()
    return p


def inverse_participation(kernel_nn: Tensor) -> float:
    """sum_k p_k^2 = ||K||_F^2 / (Tr K)^2, without an eigendecomposition; 1 over it is a number of modes."""
    kernel = kernel_nn.to(torch.float64)
    return float(kernel.square().sum() / kernel.trace().square())


def expected_position(p: FloatArray, *, teachers: int = 1) -> float:
    """E[chi_pos] of an eNTK with normalised eigenvalues p when T Gaussian-process targets are standardised together.

    With S_k independent, chi-squared with T degrees of freedom, chi_pos = sum_k p_k^2 S_k / sum_k p_k S_k. From
    1 / a = int_0^inf exp(-a t) dt and E exp(-s S_k) = (1 + 2 s)^(-T/2), with t -> t / T,

        E[chi_pos] = int_0^inf prod_j (1 + 2 t p_j / T)^(-T/2) sum_k p_k^2 / (1 + 2 t p_k / T) dt.

    For large T the product is exp(-t) and the value sum_k p_k^2. For one target it is smaller: where the leading mode
    happens to be large in y, y is large, and standardising divides by just that.

    Raises:
        ValueError: p is not a distribution, or there is no teacher.
    """
    from scipy.integrate import quad

    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not np.all(p >= 0) or not abs(p.sum() - 1) < 1e-8:
        raise ValueError(f"p has shape {p.shape} and sum {p.sum():g}; expected eigenvalues >= 0 with sum 1")
    if teachers < 1:
        raise ValueError(f"teachers is {teachers}; expected at least 1")
    p = p[p > 0]

    def integrand(log_t: float) -> float:
        t = np.exp(log_t)
        factors = 2 * t * p / teachers
        product = np.exp(-teachers / 2 * np.log1p(factors).sum())
        return float(t * product * (p**2 / (1 + factors)).sum())

    # In log t the integrand is one smooth bump: t to the left of it, and at most t^(-1/2) to the right.
    value, _ = quad(integrand, -50.0, 80.0, points=(0.0,), limit=400, epsabs=0.0, epsrel=1e-10)
    return float(value)
