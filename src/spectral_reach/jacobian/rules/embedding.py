"""Look-ups in a table: the gradient of a row is the sum of the gradients at the places that looked it up."""

from __future__ import annotations

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import Form, LookUps, at_least_float32
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.rules.registry import Use, layer_rule


@layer_rule("EmbeddingBackward0", slots=(0,))
def _embedding(use: Use, d: Tensor) -> Form:
    if use.saved("scale_grad_by_freq"):
        raise NotByUnitError("an embedding scales its gradients by how often the whole batch uses a token")
    index = use.layout.by_unit(use.saved("indices"))
    gradients = at_least_float32(use.layout.by_unit(d))
    padding = use.saved("padding_idx")
    if padding >= 0:
        # Looking up the padding row is no use of the parameter.
        gradients = gradients * index.ne(padding).unsqueeze(-1)
    return LookUps(index=index.flatten(1), gradients=gradients.flatten(1, -2), rows=use.shape[0])


@layer_rule("IndexBackward0", slots=(0,))
def _indexed(use: Use, d: Tensor) -> Form:
    """``table[index]`` of a raw parameter."""
    first, *others = use.node._saved_indices  # type: ignore[attr-defined]
    if first is None or first.dtype == torch.bool or any(index is not None for index in others):
        raise NotByUnitError("a parameter is indexed in another way than by one index along its first axis")
    index = use.layout.by_unit(first % use.shape[0])  # -1 is the last row
    rows = at_least_float32(use.layout.by_unit(d)).reshape(*index.shape[:1], index[0].numel(), -1)
    return LookUps(index=index.flatten(1), gradients=rows, rows=use.shape[0])
