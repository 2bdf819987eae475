"""Element-wise operations with a parameter that is the same for every unit.

Position embeddings (x + p), class tokens (expanded to the batch), mask tokens, temperatures (x / p), layer scales and
the RMS norms of transformers (x * p). The gradient of a unit is the ordinary one before the sum over units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import Dense, Form, at_least_float32
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.rules.registry import Use, layer_rule


def summed_to(use: Use, products: Tensor) -> Tensor:
    """Gradients of the output's shape, summed by unit to the shape of the parameter: (B, *shape)."""
    axis, ndim = use.layout.axis, products.ndim
    missing = ndim - len(use.shape)
    padded = [1] * missing + list(use.shape)
    if missing < 0 or padded[axis] != 1:
        raise NotByUnitError(f"a parameter of shape {use.shape} has different values for different units")
    kept = padded[:axis] + padded[axis + 1 :]
    by_unit = use.layout.by_unit(products)  # (B, rows, *axes but that of the units)
    summed = by_unit.sum(1) if use.layout.rows > 1 else by_unit.squeeze(1)
    if gone := [1 + place for place, size in enumerate(kept) if size == 1 and summed.shape[1 + place] != 1]:
        summed = summed.sum(gone, keepdim=True)
    return summed.reshape(use.layout.n_units, *use.shape)


@layer_rule("AddBackward0", "SubBackward0", slots=(0, 1))
def _sum(use: Use, d: Tensor) -> Form:
    sign = -1 if use.node.name() == "SubBackward0" else 1
    scale = 1 if use.slot == 0 else sign * use.saved("alpha")
    return Dense.of(summed_to(use, at_least_float32(d)) * scale)


@layer_rule("MulBackward0", slots=(0, 1))
def _product(use: Use, d: Tensor) -> Form:
    other = use.saved("other" if use.slot == 0 else "self")
    return Dense.of(summed_to(use, at_least_float32(d) * at_least_float32(other)))


@layer_rule("DivBackward0", slots=(0, 1))
def _quotient(use: Use, d: Tensor) -> Form:
    d, below = at_least_float32(d), at_least_float32(use.saved("other"))
    if use.slot == 0:
        return Dense.of(summed_to(use, d / below))
    return Dense.of(summed_to(use, -d * at_least_float32(use.saved("self")) / below.square()))


@layer_rule("WhereBackward0", slots=(0, 1))
def _choice(use: Use, d: Tensor) -> Form:
    """Mask tokens, and biases of attention under its mask."""
    condition = use.saved("condition")
    return Dense.of(summed_to(use, at_least_float32(d).where(condition if use.slot == 0 else ~condition, 0)))


@layer_rule("ExpandBackward0", slots=(0,))
def _expanded(use: Use, d: Tensor) -> Form:
    return Dense.of(summed_to(use, at_least_float32(d)))


@layer_rule("RepeatBackward0", slots=(0,))
def _repeated(use: Use, d: Tensor) -> Form:
    """Whole copies for each unit: class tokens, and what instance normalisation makes of its scale."""
    axis = use.layout.axis
    sizes = [1] * (d.ndim - len(use.shape)) + list(use.shape)
    if sizes[axis] != 1 and (use.layout.rows % sizes[axis] or not use.layout.unit_major):
        raise NotByUnitError(f"a parameter of shape {use.shape} is repeated with different parts for different units")
    copies = use.layout.by_unit(at_least_float32(d)).movedim(1, axis + 1)  # (B, *axes, one unit's share of its axis)
    for place, size in enumerate(sizes, start=1):
        copies = torch.unflatten(copies, place, (-1, size)).sum(place)
    return Dense.of(copies.reshape(use.layout.n_units, *use.shape))
