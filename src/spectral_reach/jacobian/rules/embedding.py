"""Look-ups in a table: the gradient of a row is the sum of the gradients at the places that looked it up."""

from __future__ import annotations

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
