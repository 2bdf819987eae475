"""Products of the gradients of all units of a batch with given vectors, from a pass of each unit alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spectral_reach.jacobian.gradient_sum import GradientSum
from spectral_reach.jacobian.one_unit import squared_norm_of_one
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts
from spectral_reach.jacobian.vjp import Gradient, inner_product
from spectral_reach.measured.micro_batches import MicroBatches


def products_alone(
    batch: MicroBatches, gradient: Gradient, vectors: Sequence[Gradient], signs: Tensor, *, offload: bool
) -> UnitGradientProducts:
    """As ``unit_gradient_products``; memory holds the vectors and their like for the signed sum.

    Args:
        batch: all units.
        gradient: g = dL/dtheta.
        vectors: like it, on any device.
        signs: one a unit, (n_units,).
        offload: keep the signed sum in the host's memory.
    """
    n, N = batch.extent.n_units, batch.extent.n_samples
    names = list(batch.parameters)
    others = [dict(zip(names, vector, strict=True)) for vector in (gradient, *vectors)]
    signed = GradientSum(batch.parameters, offload=offload)
    squared_norms = torch.zeros(n, dtype=torch.float64)
    products = torch.zeros(len(others), n, dtype=torch.float64)
    with_signed = torch.zeros(n, dtype=torch.float64)
    for unit in range(n):

        def take(name: str, g: Tensor, unit: int = unit) -> None:
            for row, other in enumerate(others):
                products[row, unit] += inner_product([g.to(other[name].device)], [other[name]])
            with_signed[unit] += signed.product(name, g)
            signed.add(name, g, float(signs[unit]) / N)

        alone = batch.part(torch.tensor([unit]))
        squared_norms[unit] = squared_norm_of_one(alone, alone.residual, take)
        del alone  # the graph, before the next one is made
    squared_norms /= N**2
    products /= N
    # E <g_i, sum_{j<i} s_j g_j>^2 = sum_{j<i} <g_i, g_j>^2.
    pair_squares = float(with_signed.div(N).square().sum())
    with_batch = products[0]
    different = with_batch.sum() - squared_norms.sum()
    return UnitGradientProducts(
        squared_norms=squared_norms,
        with_batch=with_batch,
        left_out=different - 2 * (with_batch - squared_norms),
        products=products[1:],
        pair_squares=pair_squares,
        signed_sum=signed.value,
    )
