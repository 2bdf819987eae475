"""Two batches: A makes the step, B feels it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.assemble import TraceErrors, assemble
from spectral_reach.decomposition.one_batch import ChiLosses, chi_losses, signs_of
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, TraceEstimate, estimate_trace
from spectral_reach.estimators.gradient_noise import PairTable, noise_free_product
from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.products_with import products_with, signed_gradient
from spectral_reach.jacobian.unit_gradients import loss_gradient
from spectral_reach.jacobian.vjp import inner_product
from spectral_reach.measured.extent import Extent
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.naming import about


@dataclass(frozen=True, kw_only=True, slots=True)
class OneOfTwo:
    """What is known of either batch apart from the gradients: its extent, L, chi_loss (also by unit) and the trace."""

    extent: Extent
    loss: float
    chi_losses: ChiLosses
    trace: TraceEstimate


def two_batches(a: Linearisation, b: Linearisation, estimator: str, options: EstimatorOptions) -> Decomposition:
    """The decomposition of a step on A as B feels it.

    Raises:
        ValueError: gradients that are not finite, or what the estimator cannot cover; errors about B say so.
    """
    gradient_a = loss_gradient(a)
    with about("against"):
        gradient_b = loss_gradient(b)
    products, same = None, a.has_units_of(b)
    if a.n_units > 1 and b.n_units > 1 and not same:
        signed_b = signed_gradient(b, signs_of(b.n_units, options.seed))
        rows = products_with(a, gradient_a, [gradient_b, signed_b])
        columns = products_with(b, gradient_b, [gradient_a])
        products = PairTable(rows=rows[0], columns=columns[0], signed_rows=rows[1])
    trace_a = estimate_trace(estimator, a, options)
    with about("against"):
        trace_b = estimate_trace(estimator, b, replace(options, seed=seed_of_second(options.seed)))
    return from_two(
        OneOfTwo(extent=a.extent, loss=a.loss, chi_losses=chi_losses(a), trace=trace_a),
        OneOfTwo(extent=b.extent, loss=b.loss, chi_losses=chi_losses(b), trace=trace_b),
        delta_loss=inner_product(gradient_a, gradient_b),
        products=products,
        same=same,
    )


def seed_of_second(seed: int) -> int:
    """The seed of the probes of B. Not seed + 1: a loop over seeds would meet the same probes twice."""
    return generator(seed, "against", torch.device("cpu")).initial_seed()


def from_two(
    a: OneOfTwo,
    b: OneOfTwo,
    *,
    delta_loss: float,
    products: PairTable | None,
    same: bool,
) -> Decomposition:
    """The decomposition from what is known of each, <g_A, g_B>, and what is known of the products <g_Ai, g_Bj>, None
    where a batch has one unit, or both are the ``same``."""
    noise, noise_undefined = None, "needs two units or more in each batch"
    if same:
        noise_undefined = "against is the same batch; noise is only removed between independent draws"
    if products is not None:
        weights = a.extent.unit_weights, b.extent.unit_weights
        noise = noise_free_product(products, *weights, (a.chi_losses.of_unit, b.chi_losses.of_unit))
    return assemble(
        a.extent,
        loss=b.loss,
        delta_loss=delta_loss,
        chi_loss=lnp.geometric_mean(a.chi_losses.mean, b.chi_losses.mean),
        chi_net=lnp.geometric_mean(a.trace.chi_net, b.trace.chi_net),
        errors=TraceErrors.of(a.trace, b.trace),
        # ``auto`` may choose differently for two batches of different sizes.
        estimator="+".join(dict.fromkeys((a.trace.estimator, b.trace.estimator))),
        probes=max(a.trace.probes, b.trace.probes),
        n_samples_against=b.extent.n_samples,
        noise=noise,
        noise_undefined=noise_undefined,
        units=min(a.trace.units, b.trace.units),
        chi_net_by_unit=False,
    )
