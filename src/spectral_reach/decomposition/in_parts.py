"""A batch, or a pair of batches, in micro-batches: the same numbers in the memory of a few units.

Everything is a sum over units but the products of their gradients. One sweep over the parts gives the gradient g of the
batch, the squared norms of the gradients of all units, their losses and traces. Products between units, which tell the
errors of the noise-corrected values, are those of some units, each gone through again; of a pair those of all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.memory import default_room, noise_units_of
from spectral_reach.decomposition.one_batch import ChiLosses, Products, from_parts, signs_of, units_of_noise
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.decomposition.two_batches import OneOfTwo, from_two, seed_of_second
from spectral_reach.estimators import EstimatorOptions, Trace, TraceEstimate
from spectral_reach.estimators.gradient_noise import PairTable
from spectral_reach.jacobian.chosen_units import products_of_chosen
from spectral_reach.jacobian.gradient_sum import GradientSum
from spectral_reach.jacobian.one_by_one import each_gradient
from spectral_reach.jacobian.one_unit import squared_norm_of_one
from spectral_reach.jacobian.products_with import products_in_parts, signed_residual
from spectral_reach.jacobian.some_units import SomeUnitProducts
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts
from spectral_reach.jacobian.vjp import Gradient, inner_product, not_finite, squared_norm
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.micro_batches import MicroBatches
from spectral_reach.measured.naming import about


def one_batch_in_parts(batch: MicroBatches, estimator: str, options: EstimatorOptions) -> Decomposition:
    """The decomposition of one batch.

    Raises:
        ValueError: gradients that are not finite, units that cannot be told apart, or what the estimator cannot cover.
    """
    swept = _sweep(batch, estimator, options, norms=options.noise_units is None)
    delta_loss = squared_norm(swept.gradient)
    products = _products(batch, swept, delta_loss, options)
    return from_parts(batch.extent, swept.loss, swept.chi_losses, products, delta_loss, swept.trace)


def two_batches_in_parts(a: MicroBatches, b: MicroBatches, estimator: str, options: EstimatorOptions) -> Decomposition:
    """The decomposition of a step on A as B feels it.

    Raises:
        ValueError: as of one batch; errors about B say so.
    """
    signs, same = None, a.has_units_of(b)
    if a.extent.n_units > 1 and b.extent.n_units > 1 and not same:
        signs = signs_of(b.extent.n_units, options.seed)
    swept_a = _sweep(a, estimator, options, norms=False)
    with about("against"):
        of_b = replace(options, seed=seed_of_second(options.seed))
        swept_b = _sweep(b, estimator, of_b, norms=False, signs=signs)
    products = None
    if swept_b.signed is not None:
        rows = products_in_parts(a, [swept_b.gradient, swept_b.signed])
        with about("against"):
            columns = products_in_parts(b, [swept_a.gradient])
        products = PairTable(rows=rows[0], columns=columns[0], signed_rows=rows[1])
    return from_two(
        OneOfTwo(extent=a.extent, loss=swept_a.loss, chi_losses=swept_a.chi_losses, trace=swept_a.trace),
        OneOfTwo(extent=b.extent, loss=swept_b.loss, chi_losses=swept_b.chi_losses, trace=swept_b.trace),
        delta_loss=inner_product(swept_a.gradient, swept_b.gradient),
        products=products,
        same=same,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Swept:
    """What one sweep over a batch gives.

    Attributes:
        loss: L.
        chi_losses: of the batch and of each unit.
        gradient: g.
        squared_norms: ||g_i||^2, (n_units,) float64; None where they were not asked for.
        signed: sum_i s_i g_i; None where no signs were given.
        trace: chi_net.
    """

    loss: float
    chi_losses: ChiLosses
    gradient: Gradient
    squared_norms: Tensor | None
    signed: Gradient | None
    trace: TraceEstimate


def _sweep(
    batch: MicroBatches, estimator: str, options: EstimatorOptions, *, norms: bool, signs: Tensor | None = None
) -> _Swept:
    extent = batch.extent
    gradient = GradientSum(batch.parameters, offload=options.offload)
    signed = None if signs is None else GradientSum(batch.parameters, offload=options.offload)
    trace = Trace(estimator, extent, options)
    squares: list[Tensor] = []
    squared_norms: list[Tensor] = []
    losses: list[float] = []

    def take(part: Linearisation) -> None:
        losses.append(part.loss * part.n_samples)
        squares.append(lnp.chi_loss_of_rows(part.residual))
        squared_norms.append(_add_gradient(part, gradient, norms=norms))
        if signs is not None and signed is not None:
            of_part = signs[torch.searchsorted(batch.units, part.unit_ids)]
            cotangent = signed_residual(part, of_part).to(part.f.dtype)
            each_gradient(part.f, cotangent, part.parameters, signed.add)
        trace.add(part)

    batch.each(take)
    N = extent.n_samples
    mean = gradient.divide(N)
    for name, part in zip(batch.parameters, mean, strict=True):
        if not bool(part.isfinite().all()):
            raise not_finite(name)
    return _Swept(
        loss=sum(losses) / N,
        chi_losses=ChiLosses.of_rows(extent, _unit_of_row(extent), torch.cat(squares)),
        gradient=mean,
        squared_norms=torch.cat(squared_norms) / N**2 if norms else None,
        signed=None if signed is None else signed.divide(N),
        trace=trace.result(),
    )


def _unit_of_row(extent: Extent) -> Tensor:
    return torch.repeat_interleave(torch.arange(extent.n_units), extent.samples_of_unit)


def _add_gradient(part: Linearisation, total: GradientSum, *, norms: bool) -> Tensor:
    """Add J^T r of a part; the squared norms of its units' own, (n_units,) float64, where they are wanted."""
    if not norms:
        each_gradient(part.f, part.residual.to(part.f.dtype), part.parameters, total.add)
        return torch.empty(0, dtype=torch.float64)
    if part.n_units == 1:
        return torch.tensor([squared_norm_of_one(part, part.residual, total.add)], dtype=torch.float64)
    return UnitBackward.of(part).told_apart().squared_norms_and_sum(part.residual, total.add)


def _products(batch: MicroBatches, swept: _Swept, delta_loss: float, options: EstimatorOptions) -> Products | None:
    """Products of unit gradients, whose sum has the squared norm ``delta_loss``; None for a single unit."""
    n = batch.extent.n_units
    if n == 1:
        return None
    options = replace(options, noise_units=noise_units_of(n, options))
    some = units_of_noise(batch.extent, options)
    units = torch.arange(n) if some is None else some
    room = default_room(swept.gradient, options.memory_budget) if options.room is None else options.room
    chosen = products_of_chosen(batch, units, swept.gradient, room)
    if some is None:
        return UnitGradientProducts.of_pairs(chosen.pairs)
    return SomeUnitProducts.of_pairs(units, chosen.pairs, chosen.with_batch, delta_loss, swept.squared_norms)
