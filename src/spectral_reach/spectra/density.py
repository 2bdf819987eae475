r"""The density of all eigenvalues, by stochastic Lanczos quadrature.

For a random sign vector v of the n-dimensional output space, E (v . q_k)^2 = 1, so the measure that v sees, sum_k
(v . q_k)^2 / n delta(lambda_k), has the density of eigenvalues as its mean. Each v gives a Gauss rule of m nodes from m
steps; their mean is the estimate, their spread its standard error. What m steps cannot resolve is a bias that more
vectors do not remove: moments up to 2m-1 have none. Source: Ubaru, Chen and Saad (2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.spectra.krylov import Floats, Krylov


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimated:
    """A value with its standard error over random vectors; NaN from one vector alone."""

    value: float
    stderr: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Density:
    """Normalised eigenvalues p of n modes as M random vectors see them.

    Attributes:
        modes: n.
        trace: raw Tr(Theta) that p is normalised with.
        krylov: what the process left of each vector, M of them. The error of an estimated trace is not in the standard
            errors here: every p has it in common.
    """

    modes: int
    trace: float
    krylov: tuple[Krylov, ...]

    @property
    def vectors(self) -> int:
        """M."""
        return len(self.krylov)

    def modes_above(self, p: float) -> Estimated:
        """How many of the n normalised eigenvalues are larger than ``p``."""
        return self._mean([self.modes * float(weights[nodes > p].sum()) for nodes, weights in self._rules()])

    def moment(self, power: int) -> Estimated:
        """sum_k p_k^power; of power 1 the trace over itself, 1 up to its errors."""
        return self._mean([self.modes * float((weights * nodes**power).sum()) for nodes, weights in self._rules()])

    @property
    def participation_ratio(self) -> Estimated:
        """1 / sum_k p_k^2: how many equal modes would have the same sum of squares."""
        second = self.moment(2)
        if second.value == 0:
            return Estimated(value=math.nan, stderr=math.nan)
        return Estimated(value=1 / second.value, stderr=second.stderr / second.value**2)

    @property
    def effective_rank(self) -> Estimated:
        """exp(-sum_k p_k ln p_k)."""
        entropies = []
        for nodes, weights in self._rules():
            kept = nodes > 0
            entropies.append(-self.modes * float((weights[kept] * nodes[kept] * np.log(nodes[kept])).sum()))
        entropy = self._mean(entropies)
        return Estimated(value=math.exp(entropy.value), stderr=entropy.stderr * math.exp(entropy.value))

    def curve(self, points: int = 200) -> tuple[Floats, Floats, Floats]:
        """p on a logarithmic grid, how many modes lie above each, and the standard error of that; for figures."""
        rules = self._rules()
        nodes = np.concatenate([nodes[nodes > 0] for nodes, _ in rules])
        grid = np.geomspace(nodes.min(), nodes.max() * (1 - 1e-12), points) if len(nodes) else np.zeros(0)
        counted = [self.modes_above(float(p)) for p in grid]
        return grid, np.array([each.value for each in counted]), np.array([each.stderr for each in counted])

    def _rules(self) -> list[tuple[Floats, Floats]]:
        rules = [each.along_the_vector() for each in self.krylov]
        return [(rule.nodes / self.trace, rule.weights) for rule in rules]

    def _mean(self, values: list[float]) -> Estimated:
        stderr = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return Estimated(value=float(np.mean(values)), stderr=stderr)
