"""Matrix products with a parameter: Linear, Conv1D of transformers, the projections of attention, raw matrices.

For rows y_t = x_t M + b of a unit, grad M = sum_t x_t d_t^T and grad b = sum_t d_t with d the gradient of y.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import Dense, Form, OuterProducts, at_least_float32
from spectral_reach.jacobian.grams import key_of_saved
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.rules.registry import Use, layer_rule


@layer_rule("AddmmBackward0", slots=(2,))
def _addmm(use: Use, d: Tensor) -> Form:
    return _product(use, use.saved("mat1"), d, use.saved("alpha"))


@layer_rule("MmBackward0", slots=(1,))
def _mm(use: Use, d: Tensor) -> Form:
    return _product(use, use.saved("self"), d, 1)


@layer_rule("AddmmBackward0", slots=(0,))
def _addmm_bias(use: Use, d: Tensor) -> Form:
    if use.layout.axis != 0 or len(use.shape) != 1:
        raise NotByUnitError(f"a bias of shape {use.shape} is added to a matrix product")
    return Dense.of(at_least_float32(use.layout.by_unit(d)).sum(1) * use.saved("beta"))


@layer_rule("MmBackward0", slots=(0,))
@layer_rule("AddmmBackward0", slots=(1,))
def _columns(use: Use, d: Tensor) -> Form:
    """M x with the units in the columns of x."""
    if use.layout.axis != 1:
        raise NotByUnitError("a parameter is multiplied by a matrix with the units in its rows")
    scale = use.saved("alpha") if use.node.name() == "AddmmBackward0" else 1
    return OuterProducts.of(use.layout.by_unit(d) * scale, use.layout.by_unit(use.saved("mat2")))


@layer_rule("MvBackward0", slots=(1,))
def _mv(use: Use, d: Tensor) -> Form:
    x, d = (at_least_float32(use.layout.by_unit(t)) for t in (use.saved("self"), d))  # (B, rows, I), (B, rows)
    return Dense.of(torch.einsum("bri,br->bi", x, d))


@layer_rule("BmmBackward0", slots=(0, 1))
def _bmm(use: Use, d: Tensor) -> Form:
    """Batched products of M (b, I, O) and x with the units among its R rows (columns): einsum over raw parameters."""
    if use.layout.axis != 2 - use.slot:
        raise NotByUnitError("a batched matrix product has the units in another place than its rows")
    x = use.saved("mat2" if use.slot == 0 else "self")
    x, d = (at_least_float32(use.layout.by_unit(t)) for t in (x, d))  # (B, rows, b, I or O)
    left, right = (d, x) if use.slot == 0 else (x, d)
    return Dense.of((left.movedim(2, 1).mT @ right.movedim(2, 1)).contiguous())


def _product(use: Use, x: Tensor, d: Tensor, scale: float) -> Form:
    if use.layout.axis != 0:
        raise NotByUnitError("a matrix product has the units in its columns")
    by_unit = use.layout.by_unit
    return OuterProducts.of(by_unit(x), by_unit(d if scale == 1 else d * scale), left_key=key_of_saved(x))
