"""The spectrum over the full output space, without the kernel: a Krylov process from the loss gradient."""

from __future__ import annotations

import torch

from spectral_reach.estimators.subset import generator
from spectral_reach.jacobian.jacobian import PlainJacobian, signs
from spectral_reach.spectra.density import Density
from spectral_reach.spectra.flat import FlatJacobian
from spectral_reach.spectra.gauss_rules import Normalisation, spectrum_of_rules
from spectral_reach.spectra.golub_kahan import golub_kahan
from spectral_reach.spectra.krylov import Bidiagonal, Krylov
from spectral_reach.spectra.options import LanczosOptions
from spectral_reach.spectra.prepared import Prepared
from spectral_reach.spectra.progress import OnProgress
from spectral_reach.spectra.result import Spectrum
from spectral_reach.spectra.stopping import stop_when_certain
from spectral_reach.spectra.trace import trace_of


def by_lanczos(ready: Prepared, options: LanczosOptions, memory_budget: int, report: OnProgress) -> Spectrum:
    """Gauss rules of gamma^2 and of the loss reduction over the eigenvalues of Theta.

    Raises:
        ValueError: an operation cannot be differentiated twice, or the vectors do not fit into the budget.
    """
    jacobian = PlainJacobian(ready.linearisation, ready.space, ready.random)
    products = FlatJacobian(jacobian)
    _check_fits(products, options, memory_budget)
    total = options.steps * (1 + options.density_vectors)
    krylov = None
    if ready.chi_loss > 0:
        start = ready.residual.flatten().to(products.device, products.dtype)
        krylov = golub_kahan(
            products,
            start,
            options.steps,
            stop_when_certain(options, lambda done: report(done, total)),
            size=jacobian.size,
        )
    trace = trace_of(ready, jacobian, options.probes, memory_budget)
    n_samples, n_outputs = ready.space.shape
    density = _density(ready, products, options, trace.chi_net * n_samples, report) if options.density_vectors else None
    report(total, total)
    about = Normalisation(
        loss=ready.linearisation.loss,
        chi_loss=ready.chi_loss,
        chi_net=trace.chi_net,
        chi_net_stderr=trace.stderr,
        undefined=trace.undefined,
        n_samples=n_samples,
        n_outputs=n_outputs,
        n_parameters=ready.parameters,
        share=ready.share,
        eps=ready.eps,
    )
    return spectrum_of_rules(krylov, density, options, about)


def _density(
    ready: Prepared, products: FlatJacobian, options: LanczosOptions, trace: float, report: OnProgress
) -> Density:
    random = generator(ready.seed, "density", products.device)
    like = torch.empty(products.shape[0], dtype=products.dtype, device=products.device)
    found: list[Bidiagonal] = []
    for number in range(options.density_vectors):
        done = options.steps * (1 + number)

        def count(krylov: Krylov, done: int = done) -> bool:
            report(done + krylov.steps, options.steps * (1 + options.density_vectors))
            return False

        found.append(golub_kahan(products, signs(like, random), options.steps, count))
    return Density(modes=ready.space.size, trace=trace, krylov=tuple(found))


def _check_fits(products: FlatJacobian, options: LanczosOptions, memory_budget: int) -> None:
    vector = min(products.shape) * torch.finfo(products.dtype).bits // 8
    needed = min(options.steps, min(products.shape)) * vector
    if needed > memory_budget:
        raise ValueError(
            f"{options.steps} Lanczos steps keep {needed / 2**30:.3g} GiB of vectors, and memory_budget allows "
            f"{memory_budget / 2**30:.3g} GiB; expected at most {memory_budget // vector} steps, or a "
            "larger budget"
        )
