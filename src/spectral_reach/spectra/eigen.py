"""The eigendecomposition of a kernel as p, gamma^2 and, on request, eigenvectors: in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spectral_reach.spectra.krylov import Floats


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Eigen:
    """Descending.

    Attributes:
        values: lambda_k, (n,), at least 0: what rounding made negative is 0.
        negative: how far rounding took an eigenvalue below 0.
        gamma2: (u . q_k)^2 / ||u||^2, (n,), sum 1; all NaN for a u of zeros.
        vectors: q_k as columns, (n, n); None unless asked for.
    """

    values: Floats
    negative: float
    gamma2: Floats
    vectors: Floats | None


def check_not_negative(found: Eigen, rounding: float) -> None:
    """Refuse a matrix with an eigenvalue that is negative beyond ``rounding``, a fraction of the largest in size.

    Raises:
        ValueError: it has one.
    """
    largest = float(found.values[0])
    if found.negative > rounding * max(found.negative, largest):
        raise ValueError(
            f"the kernel is not positive semi-definite: it has an eigenvalue of {-found.negative:.3g}, the largest is "
            f"{largest:.3g}; expected none below 0 but for rounding"
        )


def eigen(kernel: Tensor, u: Tensor, *, vectors: bool) -> Eigen:
    """Of a symmetric float64 kernel (n, n), which may be overwritten, and a vector u (n,)."""
    values, q = torch.linalg.eigh(kernel)
    share = (q.mT @ u.to(q)).square()
    total = float(share.sum())
    gamma2 = share / total if total > 0 else torch.full_like(share, float("nan"))
    return Eigen(
        values=np.ascontiguousarray(values.flip(0).clamp(min=0).numpy()),
        negative=max(0.0, -float(values[0])),
        gamma2=np.ascontiguousarray(gamma2.flip(0).numpy()),
        vectors=np.ascontiguousarray(q.flip(1).numpy()) if vectors else None,
    )
