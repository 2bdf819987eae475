"""The Lanczos process on a symmetric kernel that is known by its products, with full reorthogonalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from spectral_reach.spectra.bidiagonal import Bidiagonal, Floats, from_tridiagonal
from spectral_reach.spectra.golub_kahan import Basis, norm


def lanczos(
    times: Callable[[Floats], Floats],
    start: Floats,
    steps: int,
    *,
    rounding: float = 1e-13,
    enough: Callable[[Bidiagonal], bool] = lambda _: False,
) -> Bidiagonal:
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

    def found(*, exhausted: bool) -> Bidiagonal:
        return from_tridiagonal(np.array(diagonal), np.array(off_diagonal), exhausted=exhausted, rounding=rounding)

    while True:
        product = np.asarray(times(u.numpy()), dtype=np.float64).reshape(-1)
        if not np.isfinite(product).all():
            raise ValueError("a product with the kernel is not finite; expected a kernel of finite values")
        r = torch.from_numpy(product.copy())
        diagonal.append(float(r @ u))
        kept.remove_from(r)
        beta = norm(r)
        scale = max(abs(each) for each in [*diagonal, *off_diagonal])
        if beta <= 64 * rounding * scale or len(kept) == len(u):
            off_diagonal.append(0.0)
            return found(exhausted=True)
        off_diagonal.append(beta)
        small = found(exhausted=False)
        if small.exhausted or len(diagonal) == steps or enough(small):
            return small
        u = r.div_(beta)
        kept.add(u)
