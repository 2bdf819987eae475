"""Convolutions in one, two and three dimensions, transposed or not, with any stride, padding, dilation and groups.

The gradient of a unit's kernel is the ordinary one of its own images; vectorising over units lets PyTorch compute
all of them as one grouped convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import Dense, Form, at_least_float32
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.rules.registry import Use, layer_rule


@layer_rule("ConvolutionBackward0", slots=(1,))
def _kernel(use: Use, d: Tensor) -> Form:
    x, d = (at_least_float32(t) for t in _images(use, use.saved("input"), d))
    kernel = at_least_float32(use.saved("weight"))
    geometry = [list(use.saved(name)) for name in ("stride", "padding", "dilation")]
    transposed, output_padding, groups = (use.saved(name) for name in ("transposed", "output_padding", "groups"))

    def of_unit(x: Tensor, d: Tensor) -> Tensor:
        gradients = torch.ops.aten.convolution_backward(
            d, x, kernel, None, *geometry, transposed, list(output_padding), groups, [False, True, False]
        )
        gradient: Tensor = gradients[1]
        return gradient

    return Dense.of(torch.vmap(of_unit)(x, d))


@layer_rule("ConvolutionBackward0", slots=(2,))
def _bias(use: Use, d: Tensor) -> Form:
    (d,) = _images(use, d)
    return Dense.of(at_least_float32(d).sum((1, *range(3, d.ndim))))


def _images(use: Use, *tensors: Tensor) -> list[Tensor]:
    """(B, images of a unit, channels, ...)."""
    if use.layout.axis != 0:
        raise NotByUnitError("a convolution has the units in another axis than the first")
    return [use.layout.by_unit(tensor) for tensor in tensors]
