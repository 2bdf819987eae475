"""Products of every unit's loss gradient with given vectors, <g_i, v>: rows of a table whose columns are elsewhere.

By layer rules in one backward pass where these cover the model; else from a pass of each unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spectral_reach.jacobian.one_by_one import each_gradient
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import products_by_passes
from spectral_reach.jacobian.vjp import Gradient, inner_product, vjp
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.micro_batches import MicroBatches


def products_with(linearisation: Linearisation, gradient: Gradient, vectors: Sequence[Gradient]) -> Tensor:
    """Of all units, (len(vectors), n_units) float64 on the CPU; ``gradient`` is g of the same linearisation."""
    backward = UnitBackward.of(linearisation)
    if backward.reason:
        return products_by_passes(linearisation, gradient, vectors)
    return backward.products_with(linearisation.residual, vectors) / linearisation.n_samples


def products_in_parts(batch: MicroBatches, vectors: Sequence[Gradient]) -> Tensor:
    """The same of a batch that comes in parts; the vectors may be on another device.

    Raises:
        ValueError: the units of a part cannot be told apart.
    """
    found: list[Tensor] = []

    def take(part: Linearisation) -> None:
        if part.n_units == 1:
            found.append(_of_one(part, vectors))
        else:
            found.append(UnitBackward.of(part).told_apart().products_with(part.residual, vectors))

    batch.each(take)
    return torch.cat(found, 1) / batch.extent.n_samples


def signed_gradient(linearisation: Linearisation, signs: Tensor) -> Gradient:
    """sum_i s_i g_i for one sign a unit, (n_units,), at least in float32."""
    summed = vjp(linearisation.f, signed_residual(linearisation, signs), linearisation)
    return [part.to(torch.promote_types(part.dtype, torch.float32)) / linearisation.n_samples for part in summed]


def signed_residual(linearisation: Linearisation, signs: Tensor) -> Tensor:
    """s_i r_n for the unit i of each sample n, (N, K)."""
    residual = linearisation.residual
    of_row = signs.to(residual.device, residual.dtype)[linearisation.unit_of_row]
    return residual * of_row.unsqueeze(1)


def _of_one(alone: Linearisation, vectors: Sequence[Gradient]) -> Tensor:
    by_name = [dict(zip(alone.parameters, vector, strict=True)) for vector in vectors]
    products = torch.zeros(len(vectors), 1, dtype=torch.float64)

    def take(name: str, gradient: Tensor) -> None:
        for row, vector in enumerate(by_name):
            products[row] += inner_product([gradient.to(vector[name].device)], [vector[name]])

    each_gradient(alone.f, alone.residual.to(alone.f.dtype), alone.parameters, take)
    return products
