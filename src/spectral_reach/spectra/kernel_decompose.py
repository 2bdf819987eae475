"""``sr.kernel_decompose``: the decomposition of any kernel, given as a matrix or by its products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch

from spectral_reach.measured.arguments import integer_from, seed_from
from spectral_reach.spectra.density import Density
from spectral_reach.spectra.explicit import spectrum_of_matrix
from spectral_reach.spectra.gauss_rules import Normalisation, spectrum_of_rules
from spectral_reach.spectra.kernel_input import KernelInput, read_gradient, read_kernel
from spectral_reach.spectra.krylov import Floats, Krylov, Tridiagonal
from spectral_reach.spectra.lanczos import lanczos
from spectral_reach.spectra.options import LanczosOptions, check_method, fractions, tolerance_from
from spectral_reach.spectra.result import Method, Spectrum
from spectral_reach.spectra.stopping import stop_when_certain

_INDEFINITE = 1e3
"""Units in the last place of the largest eigenvalue by which an eigenvalue may be negative."""


def kernel_decompose(
    kernel: Any,
    loss_gradient: Any,
    *,
    method: Method | None = None,
    eigenvectors: bool = False,
    trace: float | None = None,
    steps: int = 64,
    tolerance: float = 0.1,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    density_vectors: int = 0,
    probes: int = 32,
    seed: int = 0,
) -> Spectrum:
    """``sr.spectrum`` for any kernel: u^T K u = chi_loss * chi_net * chi_pos, and the distribution behind it.

    Args:
        kernel: symmetric and positive semi-definite, n x n: a NumPy array, a tensor, a scipy sparse matrix, or a scipy
            ``LinearOperator``.
        loss_gradient: u = dL/df, n entries in the kernel's order. With N = n, chi_loss = n ||u||^2 and
            chi_net = Tr(K) / n.
        method: ``"explicit"`` decomposes the matrix, ``"lanczos"`` makes ``steps`` products with it. By default
            explicit for arrays and tensors, Lanczos for sparse matrices and operators.
        eigenvectors: keep them; of ``"explicit"`` only.
        trace: Tr(K) of an operator, if you know it; otherwise it is estimated by ``probes`` random sign vectors. Of
            ``"lanczos"`` only: an explicit kernel shows it.
        steps, tolerance, quantiles, density_vectors, seed: as in ``sr.spectrum``.
        probes: random sign vectors for the trace of an operator.

    Raises:
        ValueError, TypeError: a kernel that is not square, not symmetric, indefinite beyond rounding or not finite,
            or a loss gradient of another size.

    Example:
        >>> import numpy as np, spectral_reach as sr
        >>> x = np.linspace(0, 1, 50)
        >>> kernel = np.exp(-((x[:, None] - x) ** 2) / 0.02)
        >>> found = sr.kernel_decompose(kernel, np.sin(6 * x))
        >>> bool(np.isclose(found.delta_loss, np.sin(6 * x) @ kernel @ np.sin(6 * x)))
        True
    """
    given = read_kernel(kernel)
    u = read_gradient(loss_gradient, given.size)
    if method is None:
        method = "lanczos" if given.dense is None else "explicit"
    check_method(method)
    options = LanczosOptions(
        steps=integer_from(1, "steps", steps),
        tolerance=tolerance_from(tolerance),
        quantiles=fractions(quantiles),
        density_vectors=integer_from(0, "density_vectors", density_vectors),
        probes=integer_from(1, "probes", probes),
    )
    random = np.random.default_rng(seed_from(seed))
    if trace is not None:
        _check_trace(trace)
    if method == "explicit":
        if density_vectors:
            raise ValueError("density_vectors is for method='lanczos'; an explicit spectrum has every eigenvalue")
        return _explicit(given, u, eigenvectors=eigenvectors)
    if eigenvectors:
        raise ValueError("eigenvectors=True needs every mode; expected method='explicit' with it")
    return _by_lanczos(given, u, options, trace, random)


def _check_trace(trace: object) -> None:
    if isinstance(trace, bool) or not isinstance(trace, Real):
        raise TypeError(f"trace is {trace!r}; expected a number, or None to have it estimated")
    if not 0 < float(trace) < math.inf:
        raise ValueError(f"trace is {trace}; expected the positive sum of the kernel's diagonal")


def _explicit(given: KernelInput, u: Floats, *, eigenvectors: bool) -> Spectrum:
    return spectrum_of_matrix(
        torch.from_numpy(np.array(given.as_matrix())),
        torch.from_numpy(u * given.size),
        eps=given.eps,
        eigenvectors=eigenvectors,
        loss=math.nan,
        n_samples=given.size,
        n_outputs=1,
        n_parameters=0,
        share=1.0,
        negative_up_to=_INDEFINITE * given.eps,
    )


def _by_lanczos(
    given: KernelInput, u: Floats, options: LanczosOptions, trace: float | None, random: np.random.Generator
) -> Spectrum:
    rounding = 4 * given.eps

    def process(start: Floats, enough: Callable[[Krylov], bool]) -> Tridiagonal:
        return lanczos(given.times, start, options.steps, rounding=rounding, enough=enough)

    def signs() -> Floats:
        return random.choice(np.array([-1.0, 1.0]), given.size)

    krylov = process(u, stop_when_certain(options)) if u.any() else None
    known, error, reason = given.trace if trace is None else trace, 0.0, ""
    if known is None:
        drawn = [float(v @ given.times(v)) for v in (signs() for _ in range(options.probes))]
        known = float(np.mean(drawn))
        error = float(np.std(drawn, ddof=1)) / math.sqrt(len(drawn)) if len(drawn) > 1 else math.nan
        reason = "" if len(drawn) > 1 else "one probe has no spread: ask for probes >= 2"
    vectors = tuple(process(signs(), lambda _: False) for _ in range(options.density_vectors))
    return spectrum_of_rules(
        krylov,
        Density(modes=given.size, trace=known, krylov=vectors) if vectors else None,
        options,
        Normalisation(
            loss=math.nan,
            chi_loss=given.size * float(u @ u),
            chi_net=known / given.size,
            chi_net_stderr=error / given.size,
            undefined=reason,
            n_samples=given.size,
            n_outputs=1,
            n_parameters=0,
            share=1.0,
            eps=given.eps,
        ),
    )
