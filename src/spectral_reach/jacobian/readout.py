r"""A linear readout, f = W h + b: recognised in the graph, whatever the model calls it.

Its own share of the trace is known exactly, for df_nk/dW_k = h_n and df_nk/db_k = 1:

    sum_{n,k} ||df_nk/dW||^2 = K sum_n ||h_n||^2,      sum_{n,k} ||df_nk/db||^2 = N K.

All other parameters act through h, and their share is Tr(W J_h J_h^T W^T) = E ||J_h^T q||^2 for a random q (N, D) with
independent rows of covariance W^T W. No tensor with K columns is needed. Rows are drawn as q = U sqrt(e) z with
W^T W = U diag(e) U^T and random signs z: along the eigenvectors the trace has the smallest off-diagonal part that a
rotation of the signs can give it. Where K < D the eigenvectors are those of W W^T, and z has K entries.

If W is also the table of an embedding, its two gradients have a product beside their squares. With
eps_t = dq.h/d(embedding of token t), x_t its index, and (W^T W)^+ the pseudo-inverse,

    E [(w_{x_t} . (W^T W)^+ q_n) (h_n . eps_t)] = h_n . (d h_n/d(embedding of t))^T w_{x_t},

which is one entry of that product; twice the sum over rows n and tokens t of a unit is its share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from spectral_reach.jacobian.affine_map import find_affine_map
from spectral_reach.jacobian.backward_pass import plain_arithmetic
from spectral_reach.jacobian.forms import LookUps, row_squares
from spectral_reach.jacobian.unit_backward import UnitBackward
from spectral_reach.jacobian.uses import ParameterUse
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class Readout:
    """The last operation of a model is f = W h + b on rows.

    Attributes:
        nodes: of the product, and of the sum with b where that stands alone.
        hidden: h of all rows of the batch, (rows, D), as the start of a backward pass; None if no parameter moves it.
        hidden_values: h, where W is measured; else None.
        n_rows: rows, labelled or not.
        weight: W, (K, D), at least float32.
        weight_name: of the parameter W, if it is measured.
        measures_bias: whether b is.
        tied: uses of W as the table of an embedding.
        use: the use of W here, which tells where the units are among the rows; None if W is not measured.
    """

    nodes: frozenset[Node]
    hidden: GradientEdge | None
    hidden_values: Tensor | None
    n_rows: int
    weight: Tensor
    weight_name: str | None
    measures_bias: bool
    tied: Sequence[ParameterUse]
    use: ParameterUse | None


_SAFE = (1e-6, 1e6)
"""Largest entries of a matrix whose squares float32 holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HiddenProbes:
    """q = mix z, and c = (W^T W)^+ q = unmix z, for random signs z: ``mix`` and ``unmix`` (D, r)."""

    mix: Tensor
    unmix: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> HiddenProbes:
        """From W, (K, D)."""
        with plain_arithmetic(weight):
            return cls._of(weight)

    @classmethod
    def _of(cls, weight: Tensor) -> HiddenProbes:
        K, D = weight.shape
        largest = max(abs(float(end)) for end in torch.aminmax(weight)) if weight.numel() else 1.0
        # Squares of a model that diverges would overflow; a power of 2 rounds nothing.
        scale = 2.0 ** (math.frexp(largest)[1] - 1) if not _SAFE[0] < largest < _SAFE[1] else 1.0
        W = weight / scale if scale != 1 else weight
        if K < D:
            W = W.to(torch.float64)
            e, vectors = torch.linalg.eigh(W @ W.mT)
        else:
            # In the precision of W: with a large vocabulary this product takes longer than all that follows.
            e, vectors = torch.linalg.eigh((W.mT @ W).to(torch.float64))
        # What lies below is rounding, and too little to count.
        kept = e > e[-1] * 4 * torch.finfo(weight.dtype if K >= D else torch.float64).eps
        e, vectors = e[kept], vectors[:, kept]
        # Unit vectors along which W stretches by sqrt(e), in the hidden space.
        directions = (W.mT @ vectors) / e.sqrt() if K < D else vectors
        stretch = e.sqrt() * scale
        return cls(mix=(directions * stretch).to(weight.dtype), unmix=(directions / stretch).to(weight.dtype))

    @property
    def rank(self) -> int:
        """r, the directions in which f moves with h."""
        return self.mix.shape[1]

    def of_signs(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """q and c, (rows, D) each, from random signs z (rows, r)."""
        with plain_arithmetic(z):
            return z @ self.mix.mT, z @ self.unmix.mT


def find_readout(backward: UnitBackward) -> Readout | None:
    """The readout of a model, if its outputs are an affine map of a hidden state and nothing else.

    Scaled, capped or otherwise changed outputs are none, nor is a W or b made of other parameters or used in other
    ways than as the table of an embedding.
    """
    map_ = None if backward.uses.unknown else find_affine_map(backward.linearisation)
    if map_ is None:
        return None
    uses = backward.uses.known
    here = [each for each in uses.get(map_.weight_name, ()) if each.use.node is map_.product]
    tied = [each for each in uses.get(map_.weight_name, ()) if each.use.node is not map_.product]
    if any(each.use.node.name() != "EmbeddingBackward0" or each.transposed is not False for each in tied):
        return None
    if len(here) > 1 or any(each.transposed is not True for each in here):
        return None
    if any(each.use.node not in map_.nodes for each in uses.get(map_.bias_name, ())):
        return None
    return Readout(
        nodes=map_.nodes,
        hidden=map_.hidden,
        hidden_values=map_.hidden_values() if here else None,
        n_rows=map_.n_rows,
        weight=map_.weight(),
        weight_name=map_.weight_name if here else None,
        measures_bias=bool(map_.bias_name and map_.bias_name in uses),
        tied=tied,
        use=here[0] if here else None,
    )


def own_share(readout: Readout, linearisation: Linearisation) -> Tensor:
    """Share of W and b in Tr(J_i J_i^T), without the product of the two gradients of a tied W: (n_units,) float64."""
    place, K = linearisation.place, linearisation.n_outputs
    assert place is not None
    of_row = torch.full((linearisation.n_samples,), float(K * readout.measures_bias), dtype=torch.float64)
    if readout.hidden_values is not None:
        of_row += K * row_squares(readout.hidden_values[place]).cpu()
    shares = torch.zeros(linearisation.n_units, dtype=torch.float64)
    return shares.index_add_(0, linearisation.unit_of_row.cpu(), of_row)


def tied_share(readout: Readout, looked_up: LookUps, c: Tensor) -> Tensor:
    """2 sum_{n,t} (w_{x_t} . c_n) (h_n . eps_t) of every unit, labelled or not, (B,) float64.

    ``looked_up`` holds x and eps; ``c`` (rows, D) is 0 in rows without a label.
    """
    assert readout.use is not None
    assert readout.hidden_values is not None
    by_unit = readout.use.use.layout.by_unit
    c, h = by_unit(c), by_unit(readout.hidden_values)  # (B, rows, D)
    w = readout.weight[looked_up.index]  # (B, T, D)
    products = torch.bmm(w, c.mT).mul_(torch.bmm(looked_up.gradients, h.mT))
    return 2 * products.sum((1, 2), dtype=torch.float64)
