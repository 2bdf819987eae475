"""A gradient that comes in parts, summed up beside the parameters or in the host's memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from spectral_reach.jacobian.forms import at_least_float32
from spectral_reach.jacobian.vjp import Gradient, inner_product, squared_norm


class GradientSum:
    """sum_k G_k, at least in float32, shaped like the parameters.

    Args:
        parameters: whose gradients.
        offload: keep the sum in the host's memory, wherever the parameters are.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, offload: bool) -> None:
        self._sums = [
            torch.zeros(
                p.shape,
                dtype=torch.promote_types(p.dtype, torch.float32),
                device="cpu" if offload else p.device,
            )
            for p in parameters
        ]

    @torch.no_grad()
    def add(self, gradient: Sequence[Tensor | None], factor: float = 1.0) -> None:
        """Add ``factor`` times a gradient; None stands for zeros."""
        for total, part in zip(self._sums, gradient, strict=True):
            if part is not None:
                dense = part.to_dense() if part.is_sparse else part
                total.add_(at_least_float32(dense).to(total.device), alpha=factor)

    @torch.no_grad()
    def divide(self, factor: float) -> Gradient:
        """The sum divided by ``factor``, in place."""
        for total in self._sums:
            total.div_(factor)
        return self._sums

    @property
    def value(self) -> Gradient:
        """The sum so far."""
        return self._sums

    def squared_norm(self) -> float:
        """||sum||^2."""
        return squared_norm(self._sums)

    def inner_product(self, other: GradientSum) -> float:
        """With another sum over the same parameters."""
        return inner_product(self._sums, other._sums)
