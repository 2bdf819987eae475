"""The Lanczos process on a symmetric kernel that is known by its products, with full reorthogonalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from spectral_reach.spectra.golub_kahan import Basis, norm
from spectral_reach.spectra.krylov import Floats, Krylov, Tridiagonal, tridiagonal


def lanczos(
    times: Callable[[Floats], Floats],
    start: Floats,
    steps: int,
    *,
    rounding: float = 1e-15,
    enough: Callable[[Krylov], bool] = lambda _: False,
) -> Tridiagonal:
    """At most ``steps`` steps with v -> Theta v from ``start`` (n,), any length but 0.

    Args:
        times: the product with the kernel.
        start: where the process begins.
        steps: m, at least 1.
        rounding: of the products, as a fraction of the largest eigenvalue.
        enough: asked after every step with all that is there.

    Raises:
        ValueError: the kernel is not positive semi-definite, or a product is not finite.
    """
    u = torch.from_numpy(start / np.linalg.norm(start))
    kept = Basis(u.new_empty((min(steps, len(u)), len(u))))
    kept.add(u)
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    while True:
        product = np.asarray(times(u.numpy()), dtype=np.float64).reshape(-1)
        if not np.isfinite(product).all():
            raise ValueError("a product with the kernel is not finite; expected a kernel of finite values")
        r = torch.from_numpy(product.copy())
        diagonal.append(float(r @ u))
        kept.remove_from(r)
        beta = norm(r)
        scale = max(abs(each) for each in [*diagonal, *off_diagonal])
        exhausted = beta <= max(_TINY, 2 * rounding) * scale or len(kept) == len(u)
        found = Tridiagonal(diagonal=np.array(diagonal), off_diagonal=np.array(off_diagonal), exhausted=exhausted)
        if exhausted or len(diagonal) == steps or enough(found):
            _check_not_negative(found, rounding)
            return found
        off_diagonal.append(beta)
        u = r.div_(beta)
        kept.add(u)


def _check_not_negative(found: Tridiagonal, rounding: float) -> None:
    """Eigenvalues of T lie between those of the kernel: a negative one is proof."""
    values = np.linalg.eigvalsh(tridiagonal(found.diagonal, found.off_diagonal))
    largest = float(np.abs(values).max())
    if values[0] < -_NEGATIVE * rounding * largest:
        raise ValueError(
            f"the kernel is not positive semi-definite: it has an eigenvalue of {values[0]:.3g} or less, where the "
            f"largest is about {largest:.3g}; expected a kernel, J J^T or a covariance"
        )


_TINY = 1e-12
"""Of the largest entry, and two roundings of the products: what is left of a vector below that is 0."""

_NEGATIVE = 1e3
"""Roundings of the largest eigenvalue by which another may come out negative."""
