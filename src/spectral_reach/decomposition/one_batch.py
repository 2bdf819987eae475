"""One batch: its loss gradient, the products of its units, and the trace."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.assemble import TraceErrors, assemble
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, TraceEstimate, check_count, estimate_trace
from spectral_reach.estimators.gradient_noise import noise_free_norm, noise_free_norm_of_some
from spectral_reach.estimators.subset import draw_units, generator
from spectral_reach.jacobian.some_units import SomeUnitProducts
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import (
    UnitGradientProducts,
    loss_gradient,
    some_unit_gradient_products,
    unit_gradient_products,
)
from spectral_reach.jacobian.vjp import inner_product
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.linearisation import Linearisation

Products = UnitGradientProducts | SomeUnitProducts


def one_batch(linearisation: Linearisation, estimator: str, options: EstimatorOptions) -> Decomposition:
    """The decomposition of one batch.

    Raises:
        ValueError: gradients that are not finite, or what the estimator cannot cover.
    """
    products, delta_loss = products_of_units(linearisation, options)
    trace = estimate_trace(estimator, linearisation, options)
    return from_parts(linearisation.extent, linearisation.loss, chi_losses(linearisation), products, delta_loss, trace)


def from_parts(
    extent: Extent,
    loss: float,
    chi_losses: ChiLosses,
    products: Products | None,
    delta_loss: float,
    trace: TraceEstimate,
) -> Decomposition:
    """The decomposition from L, chi_loss of the batch and its units, products of the unit gradients (None for a single
    unit), ||g||^2 and the trace."""
    chi_net_of_unit, noise = None, None
    if products is not None and trace.unit_traces is not None:
        chi_net_of_unit = trace.unit_traces / extent.samples_of_unit
    if isinstance(products, SomeUnitProducts):
        noise = noise_free_norm_of_some(products, extent.unit_weights, chi_losses.of_unit, chi_net_of_unit)
    elif products is not None:
        noise = noise_free_norm(products, extent.unit_weights, chi_losses.of_unit, chi_net_of_unit)
    return assemble(
        extent,
        loss=loss,
        delta_loss=delta_loss,
        chi_loss=chi_losses.mean,
        chi_net=trace.chi_net,
        errors=TraceErrors.of(trace),
        estimator=trace.estimator,
        probes=trace.probes,
        n_samples_against=None,
        noise=noise,
        noise_undefined="needs two units or more",
        units=trace.units,
        chi_net_by_unit=chi_net_of_unit is not None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ChiLosses:
    """chi_loss, ``mean``, and the mean squared residual of each unit's samples, ``of_unit`` (n_units,) float64."""

    mean: float
    of_unit: Tensor

    @classmethod
    def of_rows(cls, extent: Extent, unit_of_row: Tensor, squares: Tensor) -> ChiLosses:
        """From ||r_n||^2 of each sample, (N,) float64 on the CPU."""
        sums = torch.zeros(extent.n_units, dtype=torch.float64).index_add_(0, unit_of_row.cpu(), squares)
        return cls(mean=float(squares.mean()), of_unit=sums / extent.samples_of_unit)


def chi_losses(linearisation: Linearisation) -> ChiLosses:
    """Of a batch that is there as a whole."""
    squares = lnp.chi_loss_of_rows(linearisation.residual)
    return ChiLosses.of_rows(linearisation.extent, linearisation.unit_of_row, squares)


def products_of_units(linearisation: Linearisation, options: EstimatorOptions) -> tuple[Products | None, float]:
    """Products of the unit gradients (None for a single unit), and ||g||^2."""
    some = units_of_noise(linearisation.extent, options)
    backward = UnitBackward.of(linearisation)
    N = linearisation.n_samples
    if not backward.reason and some is None:
        pairs = backward.inner_products(linearisation.residual) / N**2
        return UnitGradientProducts.of_pairs(pairs) if linearisation.n_units > 1 else None, float(pairs.sum())
    if not backward.reason:
        assert some is not None
        products = backward.products_of_some(linearisation.residual, some, N)
        return products, products.squared_norm
    gradient = loss_gradient(linearisation)
    delta_loss = inner_product(gradient, gradient)
    if linearisation.n_units == 1:
        return None, delta_loss
    signs = signs_of(linearisation.n_units, options.seed)
    if some is not None:
        return some_unit_gradient_products(linearisation, gradient, signs, some), delta_loss
    return unit_gradient_products(linearisation, gradient, signs), delta_loss


def units_of_noise(extent: Extent, options: EstimatorOptions) -> Tensor | None:
    """Which units' gradients are multiplied with all others, (m,) int64 on the CPU; None for all."""
    check_count("noise_units", options.noise_units, extent)
    if options.noise_units is None or options.noise_units == extent.n_units:
        return None
    random = generator(options.seed, "noise units", torch.device("cpu"))
    return draw_units(extent.n_units, options.noise_units, random)


def signs_of(n_units: int, seed: int) -> Tensor:
    """Random signs, one a unit, (n_units,) float64 on the CPU."""
    random = generator(seed, "signs", torch.device("cpu"))
    return torch.randint(0, 2, (n_units,), generator=random, dtype=torch.float64) * 2 - 1
