"""Two batches: A makes the step, B feels it."""

from __future__ import annotations

from dataclasses import replace

import torch

from spectral_reach.decomposition import lnp
from spectral_reach.decomposition.assemble import TraceErrors, assemble
from spectral_reach.decomposition.one_batch import chi_losses, signs_of
from spectral_reach.decomposition.result import Decomposition
from spectral_reach.estimators import EstimatorOptions, estimate_trace
from spectral_reach.estimators.gradient_noise import noise_free_product
from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.unit_gradients import loss_gradient, unit_gradient_products
from spectral_reach.jacobian.vjp import inner_product
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.naming import about


def two_batches(a: Linearisation, b: Linearisation, estimator: str, options: EstimatorOptions) -> Decomposition:
    """The decomposition of a step on A as B feels it.

    Raises:
        ValueError: gradients that are not finite, or what the estimator cannot cover; errors about B say so.
    """
    (chi_loss_a, by_unit_a), (chi_loss_b, by_unit_b) = chi_losses(a), chi_losses(b)
    gradient_a = loss_gradient(a)
    with about("against"):
        gradient_b = loss_gradient(b)
    noise, noise_undefined = None, "needs two units or more in each batch"
    if a.has_units_of(b):
        noise_undefined = "against is the same batch; noise is only removed between independent draws"
    elif a.n_units > 1 and b.n_units > 1:
        seed = options.seed
        of_b = unit_gradient_products(b, gradient_b, [gradient_a], signs_of(b, seed))
        of_a = unit_gradient_products(a, gradient_a, [gradient_b, of_b.signed_sum], signs_of(a, seed))
        noise = noise_free_product(of_a, of_b, a.unit_weights, b.unit_weights, (by_unit_a, by_unit_b))
    trace_a = estimate_trace(estimator, a, options)
    with about("against"):
        # Not seed + 1: a loop over seeds would meet the same probes twice.
        other_seed = generator(options.seed, "against", torch.device("cpu")).initial_seed()
        trace_b = estimate_trace(estimator, b, replace(options, seed=other_seed))
    chi_net = lnp.geometric_mean(trace_a.chi_net, trace_b.chi_net)
    return assemble(
        a,
        loss=b.loss,
        delta_loss=inner_product(gradient_a, gradient_b),
        chi_loss=lnp.geometric_mean(chi_loss_a, chi_loss_b),
        chi_net=chi_net,
        errors=TraceErrors.of(trace_a, trace_b),
        # ``auto`` may choose differently for two batches of different sizes.
        estimator="+".join(dict.fromkeys((trace_a.estimator, trace_b.estimator))),
        probes=max(trace_a.probes, trace_b.probes),
        n_samples_against=b.n_samples,
        noise=noise,
        noise_undefined=noise_undefined,
        units=min(trace_a.units, trace_b.units),
        chi_net_by_unit=False,
    )
