"""The algebra of the paper: loss, network and position components of the linearised loss change.

    delta_loss = chi_loss * chi_net * chi_pos

in the normalised convention (chi_loss = N ||u||^2, chi_net = Tr(J J^T) / N). Source: arXiv 2605.31244.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from spectral_reach.jacobian.forms import row_squares


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """chi_pos with the standard error that it inherits from chi_net; ``undefined`` says why it is NaN."""

    value: float
    stderr: float
    undefined: str


def chi_loss_of(residual: Tensor) -> float:
    """Mean squared per-sample loss gradient, from r = N u, (N, K)."""
    return float(chi_loss_of_rows(residual).mean())


def chi_loss_of_rows(residual: Tensor) -> Tensor:
    """||r_n||^2 of each sample, (N,) float64 on the CPU."""
    return row_squares(residual).cpu()


def position(delta_loss: float, chi_loss: float, chi_net: float, chi_net_stderr: float, *, is_exact: bool) -> Position:
    """chi_pos = delta_loss / (chi_loss chi_net), with the delta method for its error.

    ``is_exact``: chi_net is no estimate by probes.
    """
    undefined = ""
    if chi_loss == 0:
        undefined = "the loss gradient is zero"
    elif chi_net == 0 and is_exact:
        undefined = "no selected parameter moves the outputs"
    elif chi_net == 0:
        undefined = "the estimate of chi_net is zero: no selected parameter moves the outputs, or the probes cancelled"
    elif chi_loss * chi_net == 0:
        undefined = "chi_loss * chi_net is too small for a floating-point number"
    if undefined:
        return Position(value=math.nan, stderr=math.nan, undefined=undefined)
    value = delta_loss / (chi_loss * chi_net)
    return Position(value=value, stderr=abs(value) * chi_net_stderr / chi_net, undefined="")


def geometric_mean(a: float, b: float) -> float:
    """The component of two batches from those of each."""
    return math.sqrt(a * b)


def geometric_mean_stderr(a: float, b: float, stderr_a: float, stderr_b: float) -> float:
    """Standard error of sqrt(a b) for independent errors (delta method)."""
    if a == 0 or b == 0:
        return 0.0
    return 0.5 * geometric_mean(a, b) * math.hypot(stderr_a / a, stderr_b / b)
