"""Per-unit loss gradients g_i = J_i^T u_i, with g = sum_i g_i, by a plain, exact route.

Two routes give the same numbers:

- *own pass*: a forward and backward pass of each unit alone. As cheap as one training step plus overhead, and right
  exactly where units do not see each other, which is verified: each unit's outputs must equal its rows in the whole
  batch, and sum_i g_i must equal g.
- *whole graph*: a backward pass over the whole batch for each unit, with the other units' loss gradients set to zero.
  Right by definition, B times the cost; taken where the forward pass is stochastic or the verification fails.

Nothing is kept but sums of products, so memory does not grow with the number of units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.jacobian.vjp import Gradient, squared_norm, vjp
from spectral_reach.measured.batch_norm import NotReplayableError
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitGradientProducts:
    """Products of the n unit gradients, float64 on the CPU.

    Attributes:
        squared_norms: ||g_i||^2, (n,).
        with_batch: <g_i, g> with the gradient g of the same batch, (n,).
        products: <g_i, v> for the given vectors v, (number of vectors, n).
        running_products: <g_i, sum_{j<i} s_j g_j> for the given random signs s, (n,). Their squares estimate
            sum_{j<i} <g_i, g_j>^2 without bias.
        signed_sum: sum_i s_i g_i.
    """

    squared_norms: Tensor
    with_batch: Tensor
    products: Tensor
    running_products: Tensor
    signed_sum: Gradient


def loss_gradient(linearisation: Linearisation) -> Gradient:
    """g = J^T u = dL/dtheta.

    Raises:
        ValueError: the gradient is not finite.
    """
    # The pass carries r = N u, and N comes out afterwards: u itself would underflow in half precision.
    summed = vjp(linearisation.f, linearisation.residual, linearisation)
    gradient = [p.to(torch.promote_types(p.dtype, torch.float32)) / linearisation.n_samples for p in summed]
    for name, part in zip(linearisation.parameters, gradient, strict=True):
        if not bool(part.isfinite().all()):
            raise ValueError(
                f"the loss gradient of parameter {name!r} is not finite although outputs and loss are; expected finite "
                "gradients: look for a division by zero, a square root at zero or an overflow in the backward pass"
            )
    return gradient


def unit_gradient_products(
    linearisation: Linearisation, gradient: Gradient, vectors: Sequence[Gradient], signs: Tensor
) -> UnitGradientProducts:
    """Products of every unit's gradient with g, with the ``vectors`` and with each other (through ``signs``, (n,)).

    ``gradient`` is g of the same linearisation.
    """
    if not linearisation.drew_random_numbers and linearisation.n_units > 1:
        products = _by_own_passes(linearisation, gradient, vectors, signs)
        if products is not None:
            return products

    def whole_graph(unit: int) -> Gradient:
        chosen = (linearisation.unit_of_row == unit).unsqueeze(1)
        return vjp(linearisation.f, linearisation.residual * chosen, linearisation)

    products, _ = _accumulate(linearisation, whole_graph, gradient, vectors, signs)
    return products


def _by_own_passes(
    linearisation: Linearisation, gradient: Gradient, vectors: Sequence[Gradient], signs: Tensor
) -> UnitGradientProducts | None:
    """The first route; None where it turns out not to hold."""
    tolerance = _tolerance(linearisation)

    def own_pass(unit: int) -> Gradient:
        outputs = linearisation.outputs_of_unit(unit)
        expected = linearisation.f.detach()[linearisation.unit_of_row == unit]
        deviation = torch.linalg.vector_norm(outputs.detach() - expected, dtype=torch.float64)
        if not deviation <= tolerance * torch.linalg.vector_norm(expected, dtype=torch.float64):
            raise NotReplayableError(f"unit {unit} has other outputs alone than in the batch")
        residual = linearisation.residual[linearisation.unit_of_row == unit]
        return vjp(outputs, residual, linearisation)

    try:
        products, total = _accumulate(linearisation, own_pass, gradient, vectors, signs)
    except Exception:
        # Whatever a model raises that cannot run on one unit (a fixed batch size, units that see each other): the
        # route over the whole graph needs no such thing, and an error that lies elsewhere comes again there.
        return None
    # Relative to the largest sum that gradients of these norms could have.
    scale = linearisation.n_units * float(products.squared_norms.sum())
    return products if squared_norm([total - _flat(gradient)]) <= tolerance**2 * scale else None


def _accumulate(
    linearisation: Linearisation,
    summed_gradient: Callable[[int], Gradient],
    gradient: Gradient,
    vectors: Sequence[Gradient],
    signs: Tensor,
) -> tuple[UnitGradientProducts, Tensor]:
    """Go through the units once, with all sums in float64: late in training they are differences of large numbers.

    ``summed_gradient(i)`` is N g_i, the sum over the unit's samples. The second result is sum_i g_i, (P,).
    """
    n_units = linearisation.n_units
    others = torch.stack([_flat(gradient), *map(_flat, vectors)])
    products = torch.zeros(len(others), n_units, dtype=torch.float64)
    squared_norms, running_products = torch.zeros(2, n_units, dtype=torch.float64)
    total, signed_sum = torch.zeros_like(others[0]), torch.zeros_like(others[0])
    for unit in range(n_units):
        g = _flat(summed_gradient(unit)).div_(linearisation.n_samples)
        squared_norms[unit] = torch.dot(g, g)
        products[:, unit] = others @ g
        running_products[unit] = torch.dot(g, signed_sum)
        total.add_(g)
        signed_sum.add_(g, alpha=float(signs[unit]))
    products_of_units = UnitGradientProducts(
        squared_norms=squared_norms,
        with_batch=products[0],
        products=products[1:],
        running_products=running_products,
        signed_sum=[signed_sum],
    )
    return products_of_units, total


def _flat(gradient: Gradient) -> Tensor:
    """All parts as one float64 vector, (P,), on the device of the first: few large operations, not many small ones."""
    meet = gradient[0].device
    return torch.cat([part.reshape(-1).to(meet) for part in gradient]).to(torch.float64)


def _tolerance(linearisation: Linearisation) -> float:
    """Relative rounding between a unit alone and within its batch, by the coarsest precision of the forward pass."""
    dtypes = {p.dtype for p in linearisation.parameters.values()} | {linearisation.f.dtype}
    device = linearisation.f.device.type
    if torch.is_autocast_enabled(device):
        dtypes.add(torch.get_autocast_dtype(device))
    eps = max(torch.finfo(dtype).eps for dtype in dtypes)
    # 8e3 eps is 1e-3 in float32: far above rounding, far below the effect of any coupling; coarser types stop at 5%.
    return min(8e3 * eps, 0.05)
