"""Batch normalisation with this batch's statistics as constants.

In training mode the statistics couple the units of a batch, and then no unit has a Jacobian of its own. Here the
outputs are exactly those of training mode, while mean and variance count as constants of the linearisation. They are
recorded in the order of the calls, so that a unit can be run alone later with the statistics of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class NotReplayableError(RuntimeError):
    """The forward pass of a part of the batch differs in kind from that of the whole."""


class _BatchNormMode(TorchFunctionMode):
    """Hands every ``F.batch_norm`` that would use batch statistics to ``normalise``."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            call = _Call(*args, **kwargs)
            if call.training:
                return self.normalise(call)
        return func(*args, **kwargs)

    def normalise(self, call: _Call) -> Tensor:
        """The outputs of one call."""
        raise NotImplementedError


class _Call:
    """The arguments of one ``F.batch_norm``, under its own parameter names."""

    def __init__(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> None:
        self.input, self.weight, self.bias = input, weight, bias
        self.running_mean, self.running_var = running_mean, running_var
        self.training, self.momentum, self.eps = training, momentum, eps

    def with_constants(self, mean: Tensor, variance: Tensor) -> Tensor:
        # In the statistics' own precision: normalising with half-precision constants would lose what the call keeps.
        weight, bias = (None if p is None else p.to(mean.dtype) for p in (self.weight, self.bias))
        x = self.input.to(mean.dtype)
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=self.eps).to(self.input.dtype)


class RecordStatistics(_BatchNormMode):
    """Whole-batch forward pass: outputs of training mode, derivatives with constant statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics: list[tuple[Tensor, Tensor]] = []

    def normalise(self, call: _Call) -> Tensor:
        """The outputs of training mode with the derivatives of an affine map.

        Raises:
            ValueError: a channel has a single value, and so no variance.
        """
        if call.input.numel() == call.input.shape[1]:
            raise ValueError(
                f"batch normalisation in training mode got one value per channel (input of shape "
                f"{tuple(call.input.shape)}); expected two or more: measure on more units, or call model.eval() to "
                "measure with the running statistics"
            )
        x = call.input.detach().to(torch.promote_types(call.input.dtype, torch.float32))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        variance, mean = torch.var_mean(x, axes, correction=0)
        self.statistics.append((mean, variance))
        with torch.no_grad():
            # The call itself: its rounding, its running statistics.
            exact = F.batch_norm(
                call.input,
                call.running_mean,
                call.running_var,
                call.weight,
                call.bias,
                True,
                call.momentum,
                call.eps,
            )
        linear = call.with_constants(mean, variance)
        return exact + (linear - linear.detach())


class ReplayStatistics(_BatchNormMode):
    """Forward pass of a part of the batch with the statistics recorded on the whole."""

    def __init__(self, statistics: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._remaining = iter(statistics)

    def normalise(self, call: _Call) -> Tensor:
        """The affine map with the next recorded statistics."""
        recorded = next(self._remaining, None)
        if recorded is None:
            raise NotReplayableError("a part of the batch met more batch-normalisation calls than the whole batch")
        linear = call.with_constants(*recorded)
        # The operations of the whole batch, so that the two graphs can be compared node by node.
        return linear.detach() + (linear - linear.detach())
