"""The Golub-Kahan process with a Jacobian that is known by its products: one J^T u and one J v a step.

In exact arithmetic the vectors are orthogonal by themselves; in floating point they are kept so by full
reorthogonalisation, in the smaller of the two spaces: that of the outputs or that of the parameters. On one side it is
enough (Simon and Zha 2000): the other side is only ever used for the next product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spectral_reach.spectra.krylov import Bidiagonal


class Products(Protocol):
    """J on flat vectors."""

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, parameters)."""
        ...

    def pull(self, u: Tensor) -> Tensor:
        """J^T u, (parameters,)."""
        ...

    def push(self, v: Tensor) -> Tensor:
        """J v, (outputs,)."""
        ...


def golub_kahan(
    products: Products,
    start: Tensor,
    steps: int,
    enough: Callable[[Bidiagonal], bool] = lambda _: False,
    *,
    size: float = 0.0,
) -> Bidiagonal:
    """At most ``steps`` steps from ``start`` (outputs,), any length but 0.

    Args:
        products: J.
        start: where the process begins; the precision of what is kept is its own.
        steps: m, at least 1.
        enough: asked after every step with all that is there.
        size: of J v for a unit v, roughly: what is far below in the first step is rounding.
    """
    outputs, parameters = products.shape
    on_parameters = parameters <= outputs
    kept = Basis(start.new_empty((min(steps, parameters if on_parameters else outputs), min(products.shape))))
    tiny = _TINY.get(start.dtype, 64 * torch.finfo(start.dtype).eps)
    u = start / norm(start)
    if not on_parameters:
        kept.add(u)
    alphas: list[float] = []
    betas: list[float] = []
    v, beta = None, 0.0
    while True:
        r = products.pull(u)
        if v is not None:
            r.add_(v, alpha=-beta)
        if on_parameters:
            kept.remove_from(r)
        alpha = norm(r)
        # v of a full space can only be rounding.
        if alpha <= tiny * max(size, _scale(alphas, betas)) or (on_parameters and kept.is_full):
            return _bidiagonal(alphas, betas, exhausted=True)
        v = r.div_(alpha)
        if on_parameters:
            kept.add(v)
        s = products.push(v).add_(u, alpha=-alpha)
        if not on_parameters:
            kept.remove_from(s)
        beta = norm(s)
        alphas.append(alpha)
        if beta <= tiny * _scale(alphas, betas) or (not on_parameters and kept.is_full and len(kept) == outputs):
            betas.append(0.0)
            return _bidiagonal(alphas, betas, exhausted=True)
        betas.append(beta)
        found = _bidiagonal(alphas, betas, exhausted=False)
        if len(alphas) == steps or enough(found):
            return found
        u = s.div_(beta)
        if not on_parameters:
            kept.add(u)


class Basis:
    """Orthonormal vectors, rows of one matrix of fixed size."""

    def __init__(self, room: Tensor) -> None:
        self._rows = room
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    @property
    def is_full(self) -> bool:
        """Whether there is room for none more."""
        return self._filled == len(self._rows)

    def add(self, vector: Tensor) -> None:
        """Keep a unit vector that is orthogonal to those here."""
        self._rows[self._filled] = vector
        self._filled += 1

    def remove_from(self, vector: Tensor) -> None:
        """Make ``vector`` orthogonal to those here, in place: classical Gram-Schmidt, a second time where it matters.

        A second time is enough (Giraud et al. 2005), and needed only where the first has taken most of the vector.
        """
        rows = self._rows[: self._filled]
        # Within the caller's autocast the products would lose the digits that orthogonality needs.
        with torch.autocast(vector.device.type, enabled=False):
            for _ in range(2):
                before = norm(vector)
                vector.addmv_(rows.mT, rows @ vector, alpha=-1)
                if norm(vector) > before / math.sqrt(2):
                    return


def norm(vector: Tensor) -> float:
    """The length, summed in float64."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def _scale(alphas: list[float], betas: list[float]) -> float:
    return max([*alphas, *betas], default=0.0)


def _bidiagonal(alphas: list[float], betas: list[float], *, exhausted: bool) -> Bidiagonal:
    return Bidiagonal(alphas=np.array(alphas), betas=np.array(betas), exhausted=exhausted)


_TINY = {torch.float64: 1e-12}
"""Of the largest alpha or beta: smaller ones are 0. Far below what matters, and above what rounding makes of a 0."""
