"""Gaussian inputs whose covariance spectrum is a power law, as natural data's roughly is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOWEST_EXPONENT, HIGHEST_EXPONENT = 1.0, 3.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerLawGaussian:
    """x ~ N(0, Sigma), Sigma diagonal with eigenvalues s_k ~ k^-beta, k = 1 .. d, and trace d.

    The basis is that of Sigma: nothing downstream prefers an axis, for the features are rotation invariant. The trace
    makes E ||x||^2 = d, whatever beta; ||x||^2 / d fluctuates by ``norm_spread`` from one x to the next.

    Attributes:
        dimension: d.
        exponent: beta, from 1 to 3.

    Raises:
        ValueError: no dimension, or an exponent out of range.
    """

    dimension: int
    exponent: float

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"dimension is {self.dimension}; expected at least 1")
        if not LOWEST_EXPONENT <= self.exponent <= HIGHEST_EXPONENT:
            raise ValueError(
                f"exponent is {self.exponent:g}; expected {LOWEST_EXPONENT:g} to {HIGHEST_EXPONENT:g}: the covariance "
                "eigenvalues fall as k^-exponent"
            )

    @property
    def eigenvalues(self) -> Tensor:
        """s, (d,) float64, descending, with sum d."""
        powers = torch.arange(1, self.dimension + 1, dtype=torch.float64).pow(-self.exponent)
        return powers * (self.dimension / powers.sum())

    @property
    def norm_spread(self) -> float:
        """Standard deviation of ||x||^2 / d, which is sqrt(2 sum_k s_k^2) / d: at d = 100 from 0.35 to 1.19.

        It is how far the diagonal of a dot-product kernel of degree one strays from its mean of 1 on a single input,
        so that the mean over n inputs has a standard error of ``norm_spread / sqrt(n)``.
        """
        return math.sqrt(2 * float(self.eigenvalues.square().sum())) / self.dimension

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent inputs, (n, d) float64.

        Raises:
            ValueError: n is below 1.
        """
        if n < 1:
            raise ValueError(f"n is {n}; expected at least 1 input")
        normal = torch.randn(n, self.dimension, generator=generator, dtype=torch.float64)
        return normal * self.eigenvalues.sqrt()
