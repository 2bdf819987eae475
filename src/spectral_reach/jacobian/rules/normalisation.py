"""Scale and shift of normalised inputs: y = x_hat w + b, so grad w = sum d x_hat and grad b = sum d over a unit.

x_hat comes from the input and the statistics that the forward pass saved. Statistics of each example (layer, group,
RMS) belong to the unit; those of batch normalisation are constants here. RMS norms written as products need no rule of
their own: they multiply by their parameter (``broadcast``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import Dense, Form, at_least_float32
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.rules.broadcast import summed_to
from spectral_reach.jacobian.rules.registry import Use, layer_rule


@layer_rule("NativeLayerNormBackward0", slots=(1,))
def _layer_scale(use: Use, d: Tensor) -> Form:
    x, mean, rstd = (at_least_float32(use.saved(name)) for name in ("input", "result1", "result2"))
    return Dense.of(summed_to(use, at_least_float32(d) * (x - mean) * rstd))


@layer_rule("NativeLayerNormBackward0", slots=(2,))
def _layer_shift(use: Use, d: Tensor) -> Form:
    return Dense.of(summed_to(use, at_least_float32(d)))


@layer_rule("NativeGroupNormBackward0", slots=(1,))
def _group_scale(use: Use, d: Tensor) -> Form:
    x, mean, rstd = (at_least_float32(use.saved(name)) for name in ("input", "result1", "result2"))
    by_group = x.reshape(*mean.shape, -1)  # (B, groups, channels of a group x places)
    normalised = (by_group - mean.unsqueeze(-1)) * rstd.unsqueeze(-1)
    return _by_channel(use, at_least_float32(d) * normalised.reshape(x.shape))


@layer_rule("NativeGroupNormBackward0", slots=(2,))
@layer_rule("NativeBatchNormBackward0", "CudnnBatchNormBackward0", "MiopenBatchNormBackward0", slots=(2,))
def _channel_shift(use: Use, d: Tensor) -> Form:
    return _by_channel(use, at_least_float32(d))


@layer_rule("NativeBatchNormBackward0", slots=(1,))
def _batch_scale(use: Use, d: Tensor) -> Form:
    if use.saved("training"):
        raise NotByUnitError("batch normalisation takes its statistics from the batch, out of reach of what fixes them")
    x, mean, variance = (at_least_float32(use.saved(name)) for name in ("input", "running_mean", "running_var"))
    channels = [1, -1] + [1] * (x.ndim - 2)
    normalised = (x - mean.view(channels)) * torch.rsqrt(variance + use.saved("eps")).view(channels)
    return _by_channel(use, at_least_float32(d) * normalised)


def _by_channel(use: Use, products: Tensor) -> Form:
    """Sums over everything but units and channels, the second axis."""
    if use.layout.axis != 0:
        raise NotByUnitError("a normalisation over channels has the units in another axis than the first")
    by_unit = use.layout.by_unit(products)  # (B, rows, C, ...)
    return Dense.of(by_unit.sum((1, *range(3, by_unit.ndim))))
