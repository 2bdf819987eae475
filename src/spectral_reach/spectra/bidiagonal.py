r"""What a Krylov method leaves of a kernel as seen from one vector: a small bidiagonal matrix.

From a unit vector u_1 the Golub-Kahan process makes orthonormal u_j (outputs) and v_j (parameters) with

    J^T u_j = alpha_j v_j + beta_{j-1} v_{j-1},      J v_j = alpha_j u_j + beta_j u_{j+1}.

With B the lower bidiagonal matrix of alphas (diagonal) and betas (below it), (m+1) x m, and L its first m rows, L L^T
is what m steps of Lanczos on Theta = J J^T from u_1 would give, and B^T B what m steps on J^T J from J^T u_1 would
give. They hold the moments of the two measures that this library is about:

    mu = sum_k gamma_k^2 delta(lambda_k),  gamma_k = u_1 . q_k:   where the vector stands in the spectrum,
    nu = sum_k gamma_k^2 lambda_k delta(lambda_k) / (u_1 . Theta u_1):   where the loss reduction comes from.

Moments 0 .. 2m-1 of mu are those of L L^T, moments 0 .. 2m-1 of nu those of B^T B. Source: Golub and Meurant,
"Matrices, Moments and Quadrature" (2010), chapters 4 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bidiagonal:
    """After m steps.

    Attributes:
        alphas: alpha_1 .. alpha_m, (m,).
        betas: beta_1 .. beta_m, (m,).
        exhausted: the process ended by itself: the vector lies in a subspace that the kernel maps to itself, and what
            is here is exact. Then the last beta may be 0, or, if it is not, a part of the vector lies where the
            kernel is 0.
    """

    alphas: Floats
    betas: Floats
    exhausted: bool

    @property
    def steps(self) -> int:
        """m."""
        return len(self.alphas)

    def first(self, steps: int) -> Bidiagonal:
        """What so many steps would have left."""
        if steps >= self.steps:
            return self
        return Bidiagonal(alphas=self.alphas[:steps], betas=self.betas[:steps], exhausted=False)

    def lower(self) -> Floats:
        """B, (m+1, m), or its first m rows where the last beta is 0."""
        m = self.steps
        matrix = np.zeros((m + 1, m))
        matrix[np.arange(m), np.arange(m)] = self.alphas
        matrix[np.arange(1, m + 1), np.arange(m)] = self.betas
        return matrix[:m] if m and self.betas[-1] == 0 else matrix


def from_tridiagonal(diagonal: Floats, off_diagonal: Floats, *, exhausted: bool, rounding: float = 1e-13) -> Bidiagonal:
    """The same from Lanczos on Theta itself: ``diagonal`` (m,), ``off_diagonal`` (m,), the last one to the next vector.

    T = L L^T by Cholesky. Where the kernel is 0 for a part of the vector, the last pivot is 0 up to ``rounding``, a
    fraction of the largest entry.

    Raises:
        ValueError: T is not positive semi-definite.
    """
    alphas, betas = [], []
    scale = float(np.max(diagonal + 2 * off_diagonal, initial=0.0))
    below = 0.0
    for a, b in zip(diagonal, off_diagonal, strict=True):
        pivot = a - below**2
        if pivot < -rounding * scale:
            raise ValueError(
                f"the kernel is not positive semi-definite: seen from this vector it has a negative pivot {pivot:g} "
                f"(its largest entry is about {scale:g}); expected a kernel, J J^T or a covariance"
            )
        if pivot <= rounding * scale:
            # Theta u_j has nothing left: beta_{j-1} leads to a vector that the kernel maps to 0.
            exhausted = True
            break
        alpha = float(np.sqrt(pivot))
        below = float(b) / alpha
        alphas.append(alpha)
        betas.append(below)
    return Bidiagonal(alphas=np.array(alphas), betas=np.array(betas), exhausted=exhausted)
