"""Products of the gradients of all units of a batch with given vectors, from a pass of each unit alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spectral_reach.jacobian.gradient_sum import GradientSum
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts
from spectral_reach.jacobian.vjp import Gradient, inner_product, squared_norm, vjp
from spectral_reach.measured.micro_batches import MicroBatches


def products_alone(
    batch: MicroBatches, gradient: Gradient, vectors: Sequence[Gradient], signs: Tensor, *, offload: bool
) -> UnitGradientProducts:
    """As ``unit_gradient_products``; memory holds the vectors, their like for the signed sum, and one unit's gradient.

    Args:
        batch: all units.
        gradient: g = dL/dtheta.
        vectors: like it, on any device.
        signs: one a unit, (n_units,).
        offload: keep the signed sum in the host's memory.
    """
    n, N = batch.extent.n_units, batch.extent.n_samples
    signed = GradientSum(batch.parameters.values(), offload=offload)
    squared_norms = torch.zeros(n, dtype=torch.float64)
    products = torch.zeros(1 + len(vectors), n, dtype=torch.float64)
    pair_squares = 0.0
    for unit in range(n):
        alone = batch.part(torch.tensor([unit]))
        g = vjp(alone.f, alone.residual, alone)
        del alone  # the graph, before the next one is made
        squared_norms[unit] = squared_norm(g) / N**2
        for row, vector in enumerate([gradient, *vectors]):
            products[row, unit] = _product(g, vector) / N
        # E <g_i, sum_{j<i} s_j g_j>^2 = sum_{j<i} <g_i, g_j>^2.
        pair_squares += (_product(g, signed.value) / N) ** 2
        signed.add(g, float(signs[unit]) / N)
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


def _product(a: Gradient, b: Gradient) -> float:
    """Wherever the two are."""
    return inner_product([part.to(other.device) for part, other in zip(a, b, strict=True)], b)
