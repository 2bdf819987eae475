r"""What a Krylov process leaves of a kernel as seen from one vector: a small matrix, and the Gauss rules in it.

Two measures are what this library is about. For a unit vector u with gamma_k = u . q_k,

    mu = sum_k gamma_k^2 delta(lambda_k):   where the vector stands in the spectrum,
    nu = sum_k gamma_k^2 lambda_k delta(lambda_k) / (u . Theta u):   where the loss reduction comes from.

**Lanczos** on Theta from u leaves a tridiagonal T (m x m) whose Gauss rule has the first 2m moments of mu.

**Golub-Kahan** works with J and J^T instead: from u_1 = u it makes orthonormal u_j (outputs) and v_j (parameters) with

    J^T u_j = alpha_j v_j + beta_{j-1} v_{j-1},      J v_j = alpha_j u_j + beta_j u_{j+1}.

With B the lower bidiagonal matrix of alphas (diagonal) and betas (below it), (m+1) x m, and L its first m rows, L L^T
is the T of Lanczos, and B^T B that of Lanczos on J^T J from J^T u, so that nu has its 2m moments too. Singular values
of B are known to a relative accuracy that eigenvalues of T near 0 are not.

Source: Golub and Meurant, "Matrices, Moments and Quadrature" (2010), chapters 4 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rule:
    """A discrete measure of total weight 1: ``nodes`` (m,) descending, ``weights`` (m,)."""

    nodes: Floats
    weights: Floats

    def quantile(self, q: float) -> float:
        """The least node x with F(x) >= q."""
        ascending = np.cumsum(self.weights[::-1])
        # The total is 1 up to rounding; a q of 1 must find the largest node.
        place = int(np.searchsorted(ascending, q * ascending[-1] * (1 - 1e-14)))
        return float(self.nodes[::-1][min(place, len(self.nodes) - 1)])


class Krylov(Protocol):
    """After m steps of a process.

    ``exhausted``: it ended by itself, for the vector lies in a subspace that the kernel maps to itself; then the rules
    are the measures themselves, up to rounding.
    """

    @property
    def exhausted(self) -> bool:
        """Whether it ended by itself."""
        ...

    @property
    def steps(self) -> int:
        """m."""
        ...

    @property
    def position(self) -> float:
        """u . Theta u, for a unit vector u."""
        ...

    def first(self, steps: int) -> Krylov:
        """What so many steps would have left."""
        ...

    def along_the_vector(self) -> Rule:
        """The Gauss rule of mu."""
        ...

    def along_the_gradient(self) -> Rule:
        """The Gauss rule of nu; there must be a part of the vector where the kernel is not 0."""
        ...

    def of_the_gradient(self) -> Floats:
        """The Jacobi matrix of nu, tridiagonal; its last diagonal entry need not be right."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bidiagonal:
    """What Golub-Kahan leaves.

    Attributes:
        alphas: alpha_1 .. alpha_m, (m,).
        betas: beta_1 .. beta_m, (m,). Of an exhausted process the last is 0 or, if it is not, a part of the vector lies
            where the kernel is 0.
        exhausted: the process ended by itself.
    """

    alphas: Floats
    betas: Floats
    exhausted: bool

    @property
    def steps(self) -> int:
        """m."""
        return len(self.alphas)

    @property
    def position(self) -> float:
        """u . Theta u."""
        return float(self.alphas[0] ** 2) if self.steps else 0.0

    def first(self, steps: int) -> Bidiagonal:
        """What so many steps would have left."""
        if steps >= self.steps:
            return self
        return Bidiagonal(alphas=self.alphas[:steps], betas=self.betas[:steps], exhausted=False)

    def along_the_vector(self) -> Rule:
        """Squared singular values of L, or of B where the process is exhausted."""
        if not self.steps:
            return Rule(nodes=np.zeros(1), weights=np.ones(1))  # the kernel is 0 for the whole vector
        matrix = self._lower() if self.exhausted else self._lower()[: self.steps]
        left, values, _ = np.linalg.svd(matrix)
        nodes = np.zeros(len(matrix))
        nodes[: len(values)] = values**2
        return Rule(nodes=nodes, weights=left[0] ** 2)

    def along_the_gradient(self) -> Rule:
        """Squared singular values of B."""
        _, values, right = np.linalg.svd(self._lower(), full_matrices=False)
        return Rule(nodes=values**2, weights=right[:, 0] ** 2)

    def of_the_gradient(self) -> Floats:
        """B^T B."""
        lower = self._lower()
        product: Floats = lower.T @ lower
        return product

    def _lower(self) -> Floats:
        """B, (m+1, m), or its first m rows where the last beta is 0."""
        m = self.steps
        matrix = np.zeros((m + 1, m))
        matrix[np.arange(m), np.arange(m)] = self.alphas
        matrix[np.arange(1, m + 1), np.arange(m)] = self.betas
        return matrix[:m] if m and self.betas[-1] == 0 else matrix


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tridiagonal:
    """What Lanczos on Theta itself leaves.

    Attributes:
        diagonal: (m,).
        off_diagonal: (m - 1,).
        exhausted: the process ended by itself.
    """

    diagonal: Floats
    off_diagonal: Floats
    exhausted: bool

    @property
    def steps(self) -> int:
        """m."""
        return len(self.diagonal)

    @property
    def position(self) -> float:
        """u . Theta u."""
        return float(self.diagonal[0])

    def first(self, steps: int) -> Tridiagonal:
        """What so many steps would have left."""
        if steps >= self.steps:
            return self
        diagonal, off_diagonal = self.diagonal[:steps], self.off_diagonal[: steps - 1]
        return Tridiagonal(diagonal=diagonal, off_diagonal=off_diagonal, exhausted=False)

    def along_the_vector(self) -> Rule:
        """Eigenvalues of T; what rounding made negative is 0."""
        values, vectors = np.linalg.eigh(tridiagonal(self.diagonal, self.off_diagonal))
        return Rule(nodes=values[::-1].clip(min=0), weights=vectors[0, ::-1] ** 2)

    def along_the_gradient(self) -> Rule:
        """The rule of mu with its weights times its nodes: one moment fewer than that of mu."""
        rule = self.along_the_vector()
        weights = rule.nodes * rule.weights
        return Rule(nodes=rule.nodes, weights=weights / weights.sum())

    def of_the_gradient(self) -> Floats:
        """Lanczos once more, on the nodes of that rule: stable where a change of the matrix itself would not be."""
        rule = self.along_the_gradient()
        vectors = np.zeros((len(rule.nodes), len(rule.nodes)))
        vectors[0] = np.sqrt(rule.weights)
        diagonal, off_diagonal = [], []
        for j in range(len(rule.nodes)):
            product = rule.nodes * vectors[j]
            diagonal.append(float(product @ vectors[j]))
            for _ in range(2):
                product -= vectors[: j + 1].T @ (vectors[: j + 1] @ product)
            length = float(np.linalg.norm(product))
            if j + 1 == len(rule.nodes) or length <= 1e-15 * rule.nodes[0]:
                break
            vectors[j + 1] = product / length
            off_diagonal.append(length)
        return tridiagonal(np.array(diagonal), np.array(off_diagonal))


def tridiagonal(diagonal: Floats, off_diagonal: Floats) -> Floats:
    """The symmetric matrix of these."""
    return np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1)
