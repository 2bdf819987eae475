"""An affine map at the end of a model, f = h W^T + b on rows: recognised in the graph, whatever the model calls it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from spectral_reach.jacobian.forms import at_least_float32
from spectral_reach.jacobian.graph import saved
from spectral_reach.measured.linearisation import Linearisation

_KEEP_ROWS = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "ToCopyBackward0"})
"""Operations between the product and the model's outputs that only give the rows other axes or another precision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AffineMap:
    """f = h W^T + b on rows, as the graph tells.

    Attributes:
        product: the node of the product.
        nodes: that, and of the sum with b where it stands alone.
        hidden: h of all rows, (rows, D), as the start of a backward pass; None if no parameter moves it.
        weight_name, bias_name: of the selected parameters W (K, D) and b (K,); "" if they are none.
        n_rows: rows, labelled or not.
    """

    product: Node
    nodes: frozenset[Node]
    hidden: GradientEdge | None
    weight_name: str
    bias_name: str
    n_rows: int

    def weight(self) -> Tensor:
        """W, (K, D), at least float32; without entries where h is constant, and so nothing is multiplied with it."""
        if self.hidden is None:
            return torch.empty(0, 0)
        return at_least_float32(saved(self.product, "mat2").mT)

    def hidden_values(self) -> Tensor:
        """h, (rows, D), at least float32; there where W is measured."""
        return at_least_float32(saved(self.product, "mat1" if self.product.name() == "AddmmBackward0" else "self"))


def find_affine_map(linearisation: Linearisation) -> AffineMap | None:
    """The last operation of a model, if it is an affine map on rows by parameters or constants, and nothing else.

    Scaled, capped or otherwise changed outputs are none, nor is a W or b made of other parameters.
    """
    if linearisation.place is None:
        return None
    found = _parts(torch.autograd.graph.get_gradient_edge(linearisation.outputs).node)
    if found is None:
        return None
    n_rows, n_outputs = found.product._input_metadata[0].shape
    if (n_rows, n_outputs) != (linearisation.outputs[..., 0].numel(), linearisation.n_outputs):
        return None
    weight_name = _parameter(found.matrix, linearisation, transposed=True)
    bias_name = _parameter(found.bias, linearisation, transposed=False)
    if weight_name is None or bias_name is None:
        return None
    source, number = found.hidden
    return AffineMap(
        product=found.product,
        nodes=found.nodes,
        hidden=None if source is None else GradientEdge(source, number),
        weight_name=weight_name,
        bias_name=bias_name,
        n_rows=n_rows,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """h M + b: the nodes, and where h (with the number of the output), M and b come from."""

    product: Node
    nodes: frozenset[Node]
    hidden: tuple[Node | None, int]
    matrix: Node | None
    bias: Node | None


def _parts(node: Node) -> _Parts | None:
    node = _below_reshapes(node)
    sources = node.next_functions
    if node.name() == "AddmmBackward0" and saved(node, "alpha") == saved(node, "beta") == 1:
        bias, hidden, matrix = sources
        return _Parts(product=node, nodes=frozenset({node}), hidden=hidden, matrix=matrix[0], bias=bias[0])
    if node.name() == "MmBackward0":
        hidden, matrix = sources
        return _Parts(product=node, nodes=frozenset({node}), hidden=hidden, matrix=matrix[0], bias=None)
    if node.name() == "AddBackward0" and saved(node, "alpha") == 1 and all(source for source, _ in sources):
        # A linear layer on rows that do not stand together in memory: the product first, then the bias.
        (first, _), (second, _) = sources
        assert first is not None
        assert second is not None
        product = _below_reshapes(first)
        if product.name() == "MmBackward0" and second._input_metadata[0].shape == node._input_metadata[0].shape[-1:]:
            hidden, matrix = product.next_functions
            nodes = frozenset({product, node})
            return _Parts(product=product, nodes=nodes, hidden=hidden, matrix=matrix[0], bias=second)
    return None


def _below_reshapes(node: Node) -> Node:
    while node.name() in _KEEP_ROWS and node.next_functions[0][0] is not None:
        node = node.next_functions[0][0]
    return node


def _parameter(node: Node | None, linearisation: Linearisation, *, transposed: bool) -> str | None:
    """The selected parameter behind an input, "" if none is; None if it is made of something else, or turned."""
    is_transposed = False
    while node is not None and node.name() in ("TBackward0", "ToCopyBackward0"):
        is_transposed ^= node.name() == "TBackward0"
        node = node.next_functions[0][0]
    if node is None:
        return ""
    variable = getattr(node, "variable", None)
    if variable is None or is_transposed != transposed:
        return None
    return next((name for name, p in linearisation.parameters.items() if p is variable), "")
