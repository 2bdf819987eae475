"""A ``Spectrum`` from what a Krylov process has left, whatever the kernel was."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.spectra.density import Density
from spectral_reach.spectra.krylov import Krylov
from spectral_reach.spectra.options import LanczosOptions
from spectral_reach.spectra.result import Spectrum
from spectral_reach.spectra.stopping import is_certain


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """What p and the components are normalised with; the fields are those of ``Spectrum``.

    ``undefined`` says why ``chi_net_stderr`` is NaN; ``eps`` is a unit in the last place of 1 in the products.
    """

    loss: float
    chi_loss: float
    chi_net: float
    chi_net_stderr: float
    undefined: str
    n_samples: int
    n_outputs: int
    n_parameters: int
    share: float
    eps: float


_NO_TRACE = "the trace of the kernel is zero, or was estimated as such"


def spectrum_of_rules(
    krylov: Krylov | None, density: Density | None, options: LanczosOptions, about: Normalisation
) -> Spectrum:
    """``krylov`` is None where the loss gradient is zero."""
    trace = about.chi_net * about.n_samples
    undefined = {"chi_net_stderr": about.undefined} if about.undefined else {}
    if density is not None and not trace > 0:
        density, undefined["density"] = None, _NO_TRACE
    p = gamma2 = np.full(1, math.nan)
    delta_loss, converged = 0.0, False
    if krylov is None:
        undefined["gamma2"] = "the loss gradient is zero"
    else:
        rule = krylov.along_the_vector()
        gamma2 = rule.weights
        delta_loss = krylov.position * about.chi_loss / about.n_samples
        converged = is_certain(krylov, options)
        if trace > 0:
            p = rule.nodes / trace
        else:
            p = np.full(len(gamma2), math.nan)
            undefined["p"] = _NO_TRACE
    return Spectrum(
        method="lanczos",
        p=p,
        gamma2=gamma2,
        loss=about.loss,
        chi_loss=about.chi_loss,
        chi_net=about.chi_net,
        chi_net_stderr=about.chi_net_stderr,
        delta_loss=delta_loss,
        n_samples=about.n_samples,
        n_outputs=about.n_outputs,
        n_parameters=about.n_parameters,
        share_of_loss_gradient=about.share,
        rounding=float(p[0]) * about.eps,
        krylov=krylov,
        density=density,
        tolerance=options.tolerance,
        converged=converged,
        undefined=undefined,
    )
