"""The arc-cosine kernel of order 1: the eNTK of random ReLU features of infinite width."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def arc_cosine_kernel(inputs_nd: Tensor, others_kd: Tensor | None = None) -> Tensor:
    """K(x, x') = E_w[2 ReLU(w.x) ReLU(w.x')], w ~ N(0, I / d), on all pairs, (n, k) float64.

        K(x, x') = ||x|| ||x'|| / (pi d) * (sin t + (pi - t) cos t),   t the angle between x and x'.

    So K(x, x) = ||x||^2 / d: the factor 2 makes up for the half of the inputs that a ReLU shuts out, and inputs of mean
    squared norm d have a mean kernel diagonal of 1. Source: Cho & Saul (2009), eqs. 3 and 6, n = 1.

    Args:
        inputs_nd: n inputs of dimension d.
        others_kd: k others; None for the same ones again, where the result is symmetric exactly.

    Raises:
        ValueError: not two axes, different dimensions, or values that are not finite.
    """
    inputs = _checked("inputs", inputs_nd)
    others = inputs if others_kd is None else _checked("others", others_kd)
    if inputs.shape[1] != others.shape[1]:
        raise ValueError(
            f"inputs have dimension {inputs.shape[1]} and others {others.shape[1]}; expected the same dimension"
        )
    products = inputs @ others.T
    if others_kd is None:
        products = (products + products.T) / 2  # a product of matrices need not be symmetric in its last digit
    norms = torch.outer(torch.linalg.vector_norm(inputs, dim=1), torch.linalg.vector_norm(others, dim=1))
    # At x = 0 the kernel is 0 and the angle is whatever one likes. Near t = 0 the arc cosine knows t to 1e-8 only,
    # which does no harm: the bracket is pi - pi t^2 / 2 + O(t^3).
    cosine = torch.where(norms > 0, products / norms, 0.0).clamp_(-1.0, 1.0)
    angle = cosine.arccos()
    bracket = (1 - cosine.square()).sqrt() + (math.pi - angle) * cosine
    return norms * bracket / (math.pi * inputs.shape[1])


def _checked(name: str, inputs: Tensor) -> Tensor:
    if inputs.ndim != 2 or inputs.shape[1] == 0:
        raise ValueError(f"{name} have shape {tuple(inputs.shape)}; expected (number of inputs, dimension)")
    if not bool(inputs.isfinite().all()):
        raise ValueError(f"{name} are not finite; expected finite values")
    return inputs.to(torch.float64)
