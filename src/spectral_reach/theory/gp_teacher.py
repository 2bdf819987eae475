"""Targets that a Gaussian process draws: what the limit kernel itself would expect to be asked to learn."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_RIDGE = 1e-10


def draw_teachers(kernel_nn: Tensor, teachers: int, generator: torch.Generator) -> Tensor:
    """T independent y ~ N(0, K), scaled by one factor so that their mean square over all T n values is 1; (T, n).

    In the eigenbasis of K, E[(y . q_k)^2] = lambda_k, so that a network with f = 0 and K for its eNTK has
    gamma_k^2 = p_k on average.

    *Standardised* is by scale and not by mean. The leading mode of K is nearly constant (features are positive: it has
    30 to 50% of the trace on power-law data), and to take the mean out of y would take that mode out of it.
    *Together* because a single y scaled on its own has other averages than a Gaussian vector
    (``predictions.expected_position``).

    Raises:
        ValueError: no teacher; a kernel that is not square, symmetric and finite, or has negative eigenvalues.
    """
    if teachers < 1:
        raise ValueError(f"teachers is {teachers}; expected at least 1")
    factor = _cholesky(kernel_nn)
    normal = torch.randn(teachers, len(factor), generator=generator, dtype=torch.float64)
    targets = normal @ factor.T
    return targets / targets.square().mean().sqrt()


def _cholesky(kernel: Tensor) -> Tensor:
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] == 0:
        raise ValueError(f"the kernel has shape {tuple(kernel.shape)}; expected a square matrix")
    kernel = kernel.to(torch.float64)
    scale = float(kernel.diagonal().mean())
    if not bool(kernel.isfinite().all()) or not float((kernel - kernel.T).abs().max()) <= 1e-10 * abs(scale):
        raise ValueError("the kernel is not finite and symmetric; expected a symmetric positive matrix")
    # Eigenvalues far down the tail are below rounding: variance of the order of rounding is added to each target.
    ridge = LARGEST_RIDGE * scale * torch.eye(len(kernel), dtype=torch.float64)
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(kernel + ridge)
    if int(failed):
        raise ValueError(
            "the kernel has negative eigenvalues; expected a positive semi-definite matrix, as every kernel on data is"
        )
    return factor
