"""A network of random ReLU features whose readout alone is trained: its eNTK is the Gram matrix of the features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RandomFeatures(nn.Module):
    """f(x) = a . phi(x) / sqrt(m), phi_i(x) = sqrt(2) ReLU(w_i . x), w_i ~ N(0, I / d), a = 0 at the start.

    The first layer is a buffer, so that the m entries of the readout a are the only parameters. Then f = 0 at the
    start, df/da = phi(x) / sqrt(m), and the eNTK on inputs X is phi(X) phi(X)^T / m, (n, n), at any a. Its mean over
    draws of the features is the arc-cosine kernel exactly, whatever m; its relative deviations are O(1 / sqrt(m)).
    The limit: Cho & Saul, *Kernel Methods for Deep Learning* (2009). The setting: arXiv 2605.31244.

    Args:
        dimension: d, of the inputs.
        width: m, the number of features.
        generator: of the weights w, which are drawn in float64 whatever ``dtype``.
        dtype: of the network.

    Raises:
        ValueError: a dimension or width below 1.
    """

    weights: Tensor

    def __init__(
        self, dimension: int, width: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        for name, value in (("dimension", dimension), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        weights = torch.randn(width, dimension, generator=generator, dtype=torch.float64) / math.sqrt(dimension)
        self.register_buffer("weights", weights.to(dtype))
        self.readout = nn.Linear(width, 1, bias=False, dtype=dtype)
        nn.init.zeros_(self.readout.weight)

    def features(self, inputs_nd: Tensor) -> Tensor:
        """phi(x) / sqrt(m), (n, m): the rows of the Jacobian."""
        # ReLU(c z) = c ReLU(z) for c > 0: scaling the inputs spares a pass over the features, which are many more.
        scale = math.sqrt(2 / self.weights.shape[0])
        return torch.relu((scale * inputs_nd) @ self.weights.T)

    def forward(self, inputs_nd: Tensor) -> Tensor:
        """f, (n, 1)."""
        outputs: Tensor = self.readout(self.features(inputs_nd))
        return outputs
