r"""The Jacobian of a few classes through a linear readout, f = W h + b, without a tensor of all K classes.

With J_h the Jacobian of the hidden state h at the parameters below the readout, and v (n, k) in the chosen classes C,

    J^T v = J_h^T (v W_C)  below,      v^T h  at W_C,      sum_n v_n  at b_C,
    J w   = W_C J_h w_below + w_{W_C} h + w_{b_C}.

All other rows of W have no part in these outputs. If h depends on W too, as with a tied embedding, W is among what lies
below, and the share of the readout is added to its rows C.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.affine_map import AffineMap, find_affine_map
from spectral_reach.jacobian.backward_pass import plain_arithmetic
from spectral_reach.jacobian.twice import TwiceDifferentiated
from spectral_reach.jacobian.vjp import Gradient, batched_gradients
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace


class ReadoutJacobian:
    """J of the chosen outputs, by backward passes from the hidden state. Made by ``of``."""

    def __init__(
        self, map_: AffineMap, below: TwiceDifferentiated | None, linearisation: Linearisation, space: OutputSpace
    ) -> None:
        assert linearisation.place is not None
        named = linearisation.parameters
        moving = [] if below is None else [list(named)[place] for place in below.moving]
        self._twice = below
        self._hidden = map_.hidden
        self._like = _like_hidden(map_, linearisation)
        self._weight = map_.weight()[space.classes] if moving else None  # (k, D)
        self._below = [named[name] for name in moving]
        self._shared = moving.index(map_.weight_name) if map_.weight_name in moving else None
        self._place = linearisation.place[space.samples]
        self._classes = space.classes
        self._hidden_values = map_.hidden_values()[self._place] if map_.weight_name else None  # (n, D)
        self._measures_bias = bool(map_.bias_name)

    @classmethod
    def of(cls, linearisation: Linearisation, space: OutputSpace) -> ReadoutJacobian | None:
        """None where the outputs are no linear readout of a hidden state, or b has a part below too.

        Raises:
            ValueError: an operation below cannot be differentiated twice.
        """
        map_ = find_affine_map(linearisation)
        if map_ is None:
            return None
        below = None
        if map_.hidden is not None:
            parameters = linearisation.parameters
            below = TwiceDifferentiated(map_.hidden, _like_hidden(map_, linearisation), list(parameters.values()))
            if map_.bias_name in [list(parameters)[place] for place in below.moving]:
                return None
        if not (map_.weight_name or map_.bias_name or (below is not None and below.moving)):
            return None  # no selected parameter moves the outputs: there is nothing to pull
        return cls(map_, below, linearisation, space)

    def pull_many(self, cotangents_Vnk: Tensor) -> Gradient:
        """J^T V: below the readout, then W_C and b_C where they are measured and their own."""
        with plain_arithmetic(cotangents_Vnk):
            return self._pull_many(cotangents_Vnk)

    def push_many(self, gradients: Gradient) -> Tensor:
        """J W, (V, n, k)."""
        with plain_arithmetic(gradients[0]):
            return self._push_many(gradients)

    def _pull_many(self, V: Tensor) -> Gradient:
        below = [p.new_zeros((len(V), *p.shape)) for p in self._below]
        if self._weight is not None:
            assert self._hidden is not None
            rows = self._like.new_zeros((len(V), *self._like.shape))
            rows[:, self._place] = (V.to(self._weight.dtype) @ self._weight).to(rows.dtype)
            found = batched_gradients(self._hidden, self._below, rows)
            below = [zeros if got is None else got for zeros, got in zip(below, found, strict=True)]
        own = []
        if self._hidden_values is not None:
            of_weight = torch.einsum("vnk,nd->vkd", V.to(self._hidden_values.dtype), self._hidden_values)
            if self._shared is None:
                own.append(of_weight)
            else:
                table = below[self._shared]
                below[self._shared] = table.index_add(1, self._classes, of_weight.to(table.dtype))
        if self._measures_bias:
            own.append(V.sum(1))
        return [*below, *own]

    def _push_many(self, gradients: Gradient) -> Tensor:
        below, own = gradients[: len(self._below)], list(gradients[len(self._below) :])
        shape = (len(gradients[0]), self._place.numel(), self._classes.numel())
        outputs = torch.zeros(shape, dtype=gradients[0].dtype, device=self._place.device)
        if self._weight is not None:
            assert self._twice is not None
            hidden = self._twice.times_many(below)[:, self._place]
            outputs += hidden.to(self._weight.dtype) @ self._weight.mT
        if self._hidden_values is not None:
            of_weight = own.pop(0) if self._shared is None else below[self._shared][:, self._classes]
            outputs += torch.einsum("vkd,nd->vnk", of_weight.to(self._hidden_values.dtype), self._hidden_values)
        if self._measures_bias:
            outputs += own.pop(0).unsqueeze(1)
        return outputs


def _like_hidden(map_: AffineMap, linearisation: Linearisation) -> Tensor:
    """Zeros of the shape and precision of h, (rows, D); without entries where no parameter moves h."""
    if map_.hidden is None:
        return linearisation.f.new_zeros(0)
    metadata = map_.hidden.node._input_metadata[map_.hidden.output_nr]
    return torch.zeros(tuple(metadata.shape), dtype=metadata.dtype, device=linearisation.f.device)
