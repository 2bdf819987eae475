r"""What the Gauss rules of a Krylov process prove about the distribution of the loss reduction.

m steps have the first moments of a measure. What these prove about its cumulative distribution F at a point x are the
inequalities of Chebyshev, Markov and Stieltjes: with the rule that has x among its nodes (Gauss-Radau), exact to 2m-2,

    sum of the weights below x  <=  F(x-)  <=  F(x)  <=  sum of the weights up to x,

and moments 0 .. 2m-2 prove no more by themselves (that eigenvalues are not negative is not used). Quantiles are
bounded by turning that around. Sources: Golub and Meurant (2010), chapter 6; Akhiezer, "The Classical Moment Problem"
(1965), theorem 2.5.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.spectra.krylov import Floats, Krylov


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """``low`` <= the truth <= ``high``."""

    low: float
    high: float


class ReductionBounds:
    """What m steps prove about the cumulative distribution of nu and its quantiles.

    Up to the rounding of the products and of the process itself, which bounds do not count.
    """

    def __init__(self, small: Krylov) -> None:
        self._rule = small.along_the_gradient()
        self._is_exact = small.exhausted
        matrix = small.of_the_gradient()
        self._inner = matrix[:-1, :-1]
        self._next = matrix[-1, -2] if len(matrix) > 1 else 0.0

    def cumulative(self, x: float) -> Bounds:
        """Bounds on F(x-) from below and on F(x) from above."""
        if self._is_exact or not len(self._inner):
            weights, nodes = self._rule.weights, self._rule.nodes
            if not self._is_exact:
                return Bounds(low=0.0, high=1.0)  # one moment proves nothing
            return Bounds(low=float(weights[nodes < x].sum()), high=float(weights[nodes <= x].sum()))
        nodes, weights = self._radau(x)
        at_x = int(np.argmin(np.abs(nodes - x)))
        below = float(weights[:at_x].sum())
        return Bounds(low=below, high=min(1.0, below + float(weights[at_x])))

    def quantile(self, q: float) -> Bounds:
        """Bounds on the least x with F(x) >= q, from the quantile of the Gauss rule outwards."""
        middle = self._rule.quantile(q)
        if self._is_exact:
            return Bounds(low=middle, high=middle)
        return Bounds(low=self._lowest(q, middle), high=self._highest(q, middle))

    def _lowest(self, q: float, middle: float) -> float:
        """The largest x that the upper bound proves to be too small."""
        top = math.log(middle)
        bottom = top - _WIDEST
        if self.cumulative(math.exp(bottom)).high >= q:
            return 0.0
        for _ in range(_HALVINGS):
            x = (bottom + top) / 2
            bottom, top = (x, top) if self.cumulative(math.exp(x)).high < q else (bottom, x)
        return math.exp(bottom)

    def _highest(self, q: float, middle: float) -> float:
        """The least x that the lower bound proves to be large enough."""
        bottom = math.log(middle)
        top = bottom + _WIDEST
        if self.cumulative(math.exp(top)).low < q:
            return math.inf
        for _ in range(_HALVINGS):
            x = (bottom + top) / 2
            bottom, top = (bottom, x) if self.cumulative(math.exp(x)).low >= q else (x, top)
        return math.exp(top)

    def _radau(self, x: float) -> tuple[Floats, Floats]:
        """Ascending nodes and weights of the rule that has x among its nodes."""
        m = len(self._inner) + 1
        matrix = np.zeros((m, m))
        matrix[:-1, :-1] = self._inner
        matrix[-1, -2] = matrix[-2, -1] = self._next
        unit = np.zeros(m - 1)
        unit[-1] = 1.0
        shifted = self._inner - x * np.eye(m - 1)
        try:
            solved = np.linalg.solve(shifted, unit)[-1]
        except np.linalg.LinAlgError:
            solved = np.linalg.solve(shifted + np.eye(m - 1) * abs(x) * 1e-14, unit)[-1]
        matrix[-1, -1] = x + self._next**2 * solved
        nodes, vectors = np.linalg.eigh(matrix)
        return nodes, vectors[0] ** 2


_WIDEST = 60.0  # in log x: far beyond what floating-point numbers of a kernel span
_HALVINGS = 48
