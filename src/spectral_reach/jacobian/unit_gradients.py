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

from spectral_reach.jacobian.agreement import same_outputs, tolerance_of
from spectral_reach.jacobian.some_units import SomeUnitProducts
from spectral_reach.jacobian.vjp import Gradient, inner_product, not_finite, squared_norm, vjp
from spectral_reach.measured.batch_norm import NotReplayableError
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitGradientProducts:
    """Products of the n unit gradients, float64 on the CPU.

    Attributes:
        squared_norms: ||g_i||^2, (n,).
        with_batch: <g_i, g> with the gradient g of the same batch, (n,).
        left_out: sum_{j != k} <g_j, g_k> over the pairs without unit i, (n,).
        pair_squares: sum_{j<i} <g_i, g_j>^2, or an unbiased estimate of it from random signs.
    """

    squared_norms: Tensor
    with_batch: Tensor
    left_out: Tensor
    pair_squares: float

    @classmethod
    def of_pairs(cls, pairs: Tensor) -> UnitGradientProducts:
        """From the table of <g_i, g_j>, (n, n)."""
        squared_norms = pairs.diagonal()
        different = pairs - torch.diag(squared_norms)
        # Row by row, so that a unit much larger than the others does not leave its rounding error in their sum.
        without = different.sum(1) - different
        return cls(
            squared_norms=squared_norms,
            with_batch=pairs.sum(1),
            left_out=without.sum(1) - without.diagonal(),
            pair_squares=(float(pairs.square().sum()) - float(squared_norms.square().sum())) / 2,
        )


def loss_gradient(linearisation: Linearisation) -> Gradient:
    """g = J^T u = dL/dtheta.

    Raises:
        NotFiniteError: the gradient is not finite.
    """
    # The pass carries r = N u, and N comes out afterwards: u itself would underflow in half precision.
    summed = vjp(linearisation.f, linearisation.residual, linearisation)
    gradient = [p.to(torch.promote_types(p.dtype, torch.float32)) / linearisation.n_samples for p in summed]
    for name, part in zip(linearisation.parameters, gradient, strict=True):
        if not bool(part.isfinite().all()):
            raise not_finite(name)
    return gradient


def unit_gradient_products(linearisation: Linearisation, gradient: Gradient, signs: Tensor) -> UnitGradientProducts:
    """Products of every unit's gradient with g and with each other (through ``signs``, (n,)).

    ``gradient`` is g of the same linearisation.
    """
    sums = _over_units(linearisation, gradient, [], signs, range(linearisation.n_units))
    with_batch = sums.products[0]
    different = with_batch.sum() - sums.squared_norms.sum()
    return UnitGradientProducts(
        squared_norms=sums.squared_norms,
        with_batch=with_batch,
        left_out=different - 2 * (with_batch - sums.squared_norms),
        pair_squares=sums.pair_squares,
    )


def products_by_passes(linearisation: Linearisation, gradient: Gradient, vectors: Sequence[Gradient]) -> Tensor:
    """Products of every unit's gradient with the ``vectors``, (len(vectors), n_units) float64 on the CPU.

    ``gradient`` is g of the same linearisation.
    """
    no_signs = torch.zeros(linearisation.n_units, dtype=torch.float64)
    return _over_units(linearisation, gradient, vectors, no_signs, range(linearisation.n_units)).products[1:]


def some_unit_gradient_products(
    linearisation: Linearisation, gradient: Gradient, signs: Tensor, units: Tensor
) -> SomeUnitProducts:
    """The same for some of the ``units``, (m,) int64, without ``vectors``."""
    sums = _over_units(linearisation, gradient, [], signs, units.tolist())
    return SomeUnitProducts(
        units=units.cpu(),
        squared_norms=sums.squared_norms,
        with_batch=sums.products[0],
        pair_squares=sums.pair_squares,
        squared_norm=inner_product(gradient, gradient),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sums:
    """Over m units: ``squared_norms`` (m,), ``products`` with g and the vectors (1 + vectors, m), the sum of squares
    of pair products, and sum_i g_i, (P,)."""

    squared_norms: Tensor
    products: Tensor
    pair_squares: float
    total: Tensor


def _over_units(
    linearisation: Linearisation,
    gradient: Gradient,
    vectors: Sequence[Gradient],
    signs: Tensor,
    units: Sequence[int],
) -> _Sums:
    """By the first route that holds."""
    if not linearisation.drew_random_numbers and linearisation.n_units > 1:
        sums = _by_own_passes(linearisation, gradient, vectors, signs, units)
        if sums is not None:
            return sums

    def whole_graph(unit: int) -> Gradient:
        chosen = (linearisation.unit_of_row == unit).unsqueeze(1)
        return vjp(linearisation.f, linearisation.residual * chosen, linearisation)

    return _accumulate(linearisation, whole_graph, gradient, vectors, signs, units)


def _by_own_passes(
    linearisation: Linearisation,
    gradient: Gradient,
    vectors: Sequence[Gradient],
    signs: Tensor,
    units: Sequence[int],
) -> _Sums | None:
    """The first route; None where it turns out not to hold."""
    tolerance = tolerance_of(linearisation)

    def own_pass(unit: int) -> Gradient:
        outputs = linearisation.of_units(torch.tensor([unit])).f
        if not same_outputs(outputs, linearisation.f[linearisation.unit_of_row == unit], tolerance):
            raise NotReplayableError(f"unit {unit} has other outputs alone than in the batch")
        residual = linearisation.residual[linearisation.unit_of_row == unit]
        return vjp(outputs, residual, linearisation)

    try:
        sums = _accumulate(linearisation, own_pass, gradient, vectors, signs, units)
    except Exception:
        # Whatever a model raises that cannot run on one unit (a fixed batch size, units that see each other): the
        # route over the whole graph needs no such thing, and an error that lies elsewhere comes again there.
        return None
    if len(units) < linearisation.n_units:
        return sums
    # Relative to the largest sum that gradients of these norms could have.
    scale = linearisation.n_units * float(sums.squared_norms.sum())
    return sums if squared_norm([sums.total - _flat(gradient)]) <= tolerance**2 * scale else None


def _accumulate(
    linearisation: Linearisation,
    summed_gradient: Callable[[int], Gradient],
    gradient: Gradient,
    vectors: Sequence[Gradient],
    signs: Tensor,
    units: Sequence[int],
) -> _Sums:
    """Go through the units once, with all sums in float64: late in training they are differences of large numbers.

    ``summed_gradient(i)`` is N g_i, the sum over the unit's samples.
    """
    others = torch.stack([_flat(gradient), *map(_flat, vectors)])
    products = torch.zeros(len(others), len(units), dtype=torch.float64)
    squared_norms = torch.zeros(len(units), dtype=torch.float64)
    pair_squares = 0.0
    total, signed_sum = torch.zeros_like(others[0]), torch.zeros_like(others[0])
    for place, unit in enumerate(units):
        g = _flat(summed_gradient(unit)).div_(linearisation.n_samples)
        squared_norms[place] = torch.dot(g, g)
        products[:, place] = others @ g
        # E <g_i, sum_{j<i} s_j g_j>^2 = sum_{j<i} <g_i, g_j>^2.
        pair_squares += float(torch.dot(g, signed_sum)) ** 2
        total.add_(g)
        signed_sum.add_(g, alpha=float(signs[unit]))
    return _Sums(squared_norms=squared_norms, products=products, pair_squares=pair_squares, total=total)


def _flat(gradient: Gradient) -> Tensor:
    """All parts as one float64 vector, (P,), on the device of the first: few large operations, not many small ones."""
    meet = gradient[0].device
    return torch.cat([part.reshape(-1).to(meet) for part in gradient]).to(torch.float64)
