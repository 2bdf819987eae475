"""A caller's kernel and loss gradient, checked: symmetric, finite, of one size, of real numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from spectral_reach.spectra.krylov import Floats

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

_PRECISIONS = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}

_ASYMMETRY = 1e3
"""Units in the last place of the largest entry by which the two triangles may differ."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KernelInput:
    """A kernel of n x n.

    Attributes:
        size: n.
        dense: the matrix, float64; None where it is sparse or known by products.
        times: the product with a vector.
        trace: the sum of the diagonal; None where it is known by products.
        precision: of the caller's numbers.
    """

    size: int
    dense: Floats | None
    times: Callable[[Floats], Floats]
    trace: float | None
    precision: torch.dtype

    @property
    def eps(self) -> float:
        """One unit in the last place of 1."""
        return float(torch.finfo(self.precision).eps)

    def as_matrix(self) -> Floats:
        """The matrix, column by column where it is known by products."""
        if self.dense is not None:
            return self.dense
        return np.stack([self.times(column) for column in np.eye(self.size)], axis=1)


def read_kernel(kernel: Any) -> KernelInput:
    """A NumPy array, a tensor, anything NumPy makes an array of, a scipy sparse matrix or a ``LinearOperator``.

    Raises:
        TypeError: it is none of these, or complex.
        ValueError: it is not square, empty, not finite or not symmetric.
    """
    from scipy.sparse import issparse
    from scipy.sparse.linalg import LinearOperator

    precision: torch.dtype | None = None
    if isinstance(kernel, torch.Tensor):
        precision = kernel.dtype if kernel.dtype.is_floating_point else torch.float64
        kernel = kernel.detach().to_dense().cpu() if kernel.layout != torch.strided else kernel.detach().cpu()
        kernel = (kernel.float() if kernel.dtype in (torch.float16, torch.bfloat16) else kernel).numpy()
    elif issparse(kernel):
        kernel = kernel.tocsr()
    elif not isinstance(kernel, LinearOperator):
        kernel = np.asarray(kernel)
    if precision is None:
        precision = _PRECISIONS.get(kernel.dtype, torch.float64)
    if kernel.dtype is not None and np.issubdtype(kernel.dtype, np.complexfloating):
        raise TypeError("the kernel is complex; expected real numbers")
    if not (isinstance(kernel, LinearOperator) or np.issubdtype(kernel.dtype, np.number)):
        raise TypeError(f"the kernel has entries of type {kernel.dtype}; expected real numbers")
    if len(kernel.shape) != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.shape[0]:
        raise ValueError(f"the kernel has shape {tuple(kernel.shape)}; expected n x n with n of 1 or more")
    if isinstance(kernel, LinearOperator):
        return _of_operator(kernel, precision)
    kernel = kernel.astype(np.float64)
    entries = kernel.data if issparse(kernel) else kernel
    if not np.isfinite(entries).all():
        raise ValueError("the kernel has entries that are not finite; expected finite numbers")
    difference, largest = abs(kernel - kernel.T).max(), abs(kernel).max()
    if difference > _ASYMMETRY * torch.finfo(precision).eps * largest:
        raise ValueError(
            f"the kernel is not symmetric: entries differ from those of its transpose by up to {difference:.3g}, the "
            f"largest is {largest:.3g}; expected a kernel, or (kernel + kernel.T) / 2 where that is meant"
        )
    return KernelInput(
        size=kernel.shape[0],
        dense=None if issparse(kernel) else kernel,
        times=lambda vector: kernel @ vector,
        trace=float(kernel.diagonal().sum()),
        precision=precision,
    )


def read_gradient(loss_gradient: Any, size: int) -> Floats:
    """u, (n,) float64, from anything with n entries.

    Raises:
        TypeError: it is complex.
        ValueError: it has another number of entries, or some that are not finite.
    """
    if isinstance(loss_gradient, torch.Tensor):
        loss_gradient = loss_gradient.detach().cpu().double().numpy()
    u = np.asarray(loss_gradient)
    if np.issubdtype(u.dtype, np.complexfloating):
        raise TypeError("the loss gradient is complex; expected real numbers")
    u = u.astype(np.float64).reshape(-1)
    if u.size != size:
        raise ValueError(
            f"the loss gradient has {u.size} entries and the kernel {size} rows; expected one entry for each, in the "
            "kernel's order"
        )
    if not np.isfinite(u).all():
        raise ValueError("the loss gradient has entries that are not finite; expected finite numbers")
    return u


def _of_operator(kernel: LinearOperator, precision: torch.dtype) -> KernelInput:
    """Symmetry is asked of one pair of random vectors: x . K y = y . K x."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, kernel.shape[0]))
    x_y, y_x = float(x @ kernel.matvec(y)), float(y @ kernel.matvec(x))
    if not np.isfinite([x_y, y_x]).all():
        raise ValueError("a product with the kernel is not finite; expected a kernel of finite values")
    scale = np.linalg.norm(x) * np.linalg.norm(kernel.matvec(y)) + np.linalg.norm(y) * np.linalg.norm(kernel.matvec(x))
    if abs(x_y - y_x) > _ASYMMETRY * torch.finfo(precision).eps * scale:
        raise ValueError(
            f"the kernel is not symmetric: x . K y is {x_y:.6g} and y . K x {y_x:.6g}; expected them equal"
        )
    return KernelInput(
        size=kernel.shape[0],
        dense=None,
        times=lambda vector: np.asarray(kernel.matvec(vector), dtype=np.float64).reshape(-1),
        trace=None,
        precision=precision,
    )
