"""One batch: its loss gradient, the products of its units, and the trace."""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.assemble import TraceErrors, assemble
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, TraceEstimate, estimate_trace
from spectral_reach.estimators.gradient_noise import NoiseFreeNorm, noise_free_norm
from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts, loss_gradient, unit_gradient_products
from spectral_reach.jacobian.vjp import inner_product
from spectral_reach.measured.linearisation import Linearisation


def one_batch(linearisation: Linearisation, estimator: str, options: EstimatorOptions) -> Decomposition:
    """The decomposition of one batch.

    Raises:
        ValueError: gradients that are not finite, or what the estimator cannot cover.
    """
    products, delta_loss = products_of_units(linearisation, options)
    return from_parts(linearisation, products, delta_loss, estimate_trace(estimator, linearisation, options))


def from_parts(
    linearisation: Linearisation, products: UnitGradientProducts | None, delta_loss: float, trace: TraceEstimate
) -> Decomposition:
    """The decomposition from products of the unit gradients (None for a single unit), ||g||^2 and the trace."""
    chi_loss, chi_loss_of_unit = chi_losses(linearisation)
    noise: NoiseFreeNorm | None = None
    if products is not None:
        chi_net_of_unit = None
        if trace.unit_traces is not None:
            chi_net_of_unit = trace.unit_traces / linearisation.samples_of_unit.cpu()
        noise = noise_free_norm(products, linearisation.unit_weights, chi_loss_of_unit, chi_net_of_unit)
    return assemble(
        linearisation,
        loss=linearisation.loss,
        delta_loss=delta_loss,
        chi_loss=chi_loss,
        chi_net=trace.chi_net,
        errors=TraceErrors.of(trace),
        estimator=trace.estimator,
        probes=trace.probes,
        n_samples_against=None,
        noise=noise,
        noise_undefined="needs two units or more",
        chi_net_by_unit=trace.unit_traces is not None,
    )


def chi_losses(linearisation: Linearisation) -> tuple[float, Tensor]:
    """chi_loss, and the mean squared residual of each unit's samples, (n_units,)."""
    squares = lnp.chi_loss_of_rows(linearisation.residual)
    sums = torch.zeros(linearisation.n_units, dtype=torch.float64).index_add_(
        0, linearisation.unit_of_row.cpu(), squares
    )
    return float(squares.mean()), sums / linearisation.samples_of_unit.cpu()


def products_of_units(
    linearisation: Linearisation, options: EstimatorOptions
) -> tuple[UnitGradientProducts | None, float]:
    """Products of the unit gradients (None for a single unit), and ||g||^2."""
    backward = UnitBackward.of(linearisation)
    if not backward.reason:
        pairs = backward.inner_products(linearisation.residual) / linearisation.n_samples**2
        return UnitGradientProducts.of_pairs(pairs) if linearisation.n_units > 1 else None, float(pairs.sum())
    gradient = loss_gradient(linearisation)
    delta_loss = inner_product(gradient, gradient)
    if linearisation.n_units == 1:
        return None, delta_loss
    return unit_gradient_products(linearisation, gradient, [], signs_of(linearisation, options.seed)), delta_loss


def signs_of(linearisation: Linearisation, seed: int) -> Tensor:
    """Random signs, one a unit, (n_units,) float64 on the CPU."""
    random = generator(seed, "signs", torch.device("cpu"))
    return torch.randint(0, 2, (linearisation.n_units,), generator=random, dtype=torch.float64) * 2 - 1
