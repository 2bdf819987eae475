"""A gradient that comes in parts, summed up beside the parameters or in the host's memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from spectral_reach.jacobian.vjp import Gradient, squared_norm


class GradientSum:
    """sum_k G_k, at least in float32, shaped like the parameters.

    Args:
        parameters: whose gradients.
        offload: keep the sum in the host's memory, wherever the parameters are.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, offload: bool) -> None:
        self._sums = {
            name: torch.zeros(
                p.shape,
                dtype=torch.promote_types(p.dtype, torch.float32),
                device="cpu" if offload else p.device,
            )
            for name, p in parameters.items()
        }

    @torch.no_grad()
    def add(self, name: str, gradient: Tensor, factor: float = 1.0) -> None:
        """Add ``factor`` times the gradient of one parameter."""
        total = self._sums[name]
        # Moved as it came: half precision is half as much to move.
        total.add_(gradient.to(total.device), alpha=factor)

    @torch.no_grad()
    def divide(self, factor: float) -> Gradient:
        """The sum divided by ``factor``, in place."""
        for total in self._sums.values():
            total.div_(factor)
        return self.value

    @property
    def value(self) -> Gradient:
        """The sum so far."""
        return list(self._sums.values())

    def squared_norm(self) -> float:
        """||sum||^2."""
        return squared_norm(self.value)
