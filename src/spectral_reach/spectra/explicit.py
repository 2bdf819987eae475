"""The spectrum of a kernel that fits as a matrix: every mode."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spectral_reach.spectra.eigen import check_not_negative, eigen
from spectral_reach.spectra.kernel_matrix import kernel_matrix
from spectral_reach.spectra.prepared import Prepared
from spectral_reach.spectra.progress import OnProgress
from spectral_reach.spectra.result import Spectrum


def explicit(ready: Prepared, *, eigenvectors: bool, memory_budget: int, report: OnProgress) -> Spectrum:
    """All eigenvalues of Theta in the chosen space, with the loss gradient among them.

    Raises:
        ValueError: the kernel does not fit into the budget, or is not finite.
    """
    kernel = kernel_matrix(
        ready.linearisation, ready.space, memory_budget=memory_budget, random=ready.random, report=report
    )
    return spectrum_of_matrix(
        kernel,
        ready.residual.flatten().to("cpu", torch.float64),
        eps=ready.eps,
        eigenvectors=eigenvectors,
        loss=ready.linearisation.loss,
        n_samples=ready.space.shape[0],
        n_outputs=ready.space.shape[1],
        n_parameters=ready.parameters,
        share=ready.share,
    )


def spectrum_of_matrix(
    kernel: Tensor,
    residual: Tensor,
    *,
    eps: float,
    eigenvectors: bool,
    loss: float,
    n_samples: int,
    n_outputs: int,
    n_parameters: int,
    share: float,
    negative_up_to: float = math.inf,
) -> Spectrum:
    """From a symmetric float64 kernel (n k, n k), which may be overwritten, and r = N u, (n k,) float64.

    ``eps`` is one unit in the last place of 1 in the products that the kernel was made from. Eigenvalues may be
    negative by ``negative_up_to`` times the largest in size; those of J J^T are so by rounding alone.
    """
    if not bool(kernel.isfinite().all()):
        raise ValueError(
            "the kernel is not finite although outputs and loss are; expected a finite Jacobian: look for a division "
            "by zero or an overflow in the backward pass, or measure in float32 or float64"
        )
    trace = float(kernel.trace())
    delta = float(residual @ (kernel @ residual)) / n_samples**2
    found = eigen(kernel, residual, vectors=eigenvectors)
    check_not_negative(found, negative_up_to)
    undefined = {}
    if trace == 0:
        undefined["p"] = "no selected parameter moves the outputs" if n_parameters else "the kernel is zero"
    chi_loss = float(residual.square().sum()) / n_samples
    if chi_loss == 0:
        undefined["gamma2"] = "the loss gradient is zero"
    total = float(found.values.sum())
    return Spectrum(
        method="explicit",
        p=found.values / total if trace else found.values * math.nan,
        gamma2=found.gamma2,
        loss=loss,
        chi_loss=chi_loss,
        chi_net=trace / n_samples,
        chi_net_stderr=0.0,
        delta_loss=delta,
        n_samples=n_samples,
        n_outputs=n_outputs,
        n_parameters=n_parameters,
        share_of_loss_gradient=share,
        rounding=max(found.negative, _ROUNDING * eps * float(found.values[0])) / total if trace else math.nan,
        eigenvectors=found.vectors,
        undefined=undefined,
    )


_ROUNDING = 8
"""Units in the last place of the largest eigenvalue by which the others may be off; more where one is negative."""
