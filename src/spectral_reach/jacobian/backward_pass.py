"""One backward pass in which the gradients of every parameter come by unit.

Autograd is asked for gradients at the lowest operations that take parameters, so it passes all others on its way and
computes no weight gradient. Hooks on the operations see the gradients of their outputs; layer rules turn these into
gradients by unit, and nothing is kept for longer than the uses of one parameter need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from spectral_reach.jacobian.forms import Form
from spectral_reach.jacobian.graph import Graph, edge
from spectral_reach.jacobian.uses import ParameterUse

Take = Callable[[str, Sequence[Form]], None]
"""Called once a parameter with its name and the forms whose sum its gradients by unit are."""


def backward_by_unit(
    graph: Graph,
    root: Tensor | GradientEdge,
    cotangent: Tensor,
    known: Mapping[str, Sequence[ParameterUse]],
    take: Take,
) -> None:
    """One pass from ``root``: ``take`` gets each parameter when the last of its uses has its gradient."""
    by_node: dict[Node, list[ParameterUse]] = {}
    for found in known.values():
        for each in found:
            by_node.setdefault(each.use.node, []).append(each)
    waiting = {name: len(found) for name, found in known.items()}
    collected: dict[str, list[Form]] = {}

    def arrived(node: Node, d: Tensor | None) -> None:
        for each in by_node[node]:
            if d is not None:
                collected.setdefault(each.name, []).append(each.form(d.detach()))
            waiting[each.name] -= 1
            if waiting[each.name] == 0 and each.name in collected:
                take(each.name, collected.pop(each.name))

    def hook(node: Node, gradients: Sequence[Tensor | None]) -> None:
        seen.add(node)
        with plain_arithmetic(cotangent):
            arrived(node, gradients[0])

    bottom = graph.bottommost(set(by_node))
    if not bottom:
        return
    edge_of_root = root if isinstance(root, GradientEdge) else torch.autograd.graph.get_gradient_edge(root)
    cotangent = cotangent.to(edge_of_root.node._input_metadata[edge_of_root.output_nr].dtype)
    seen: set[Node] = set(bottom)
    handles = [node.register_prehook(partial(hook, node)) for node in by_node if node not in seen]
    try:
        gradients = torch.autograd.grad(
            root,
            [edge(node) for node in bottom],
            cotangent,
            retain_graph=True,
            allow_unused=True,
        )
    finally:
        for handle in handles:
            handle.remove()
    with torch.no_grad(), plain_arithmetic(cotangent):
        for node, gradient in zip(bottom, gradients, strict=True):
            arrived(node, gradient)
        # Operations that the root does not depend on have no gradient, but their parameters may have others.
        for node in by_node:
            if node not in seen:
                arrived(node, None)


def plain_arithmetic(tensor: Tensor) -> torch.autocast:
    """Rules multiply and add in the precision of what they are given, also within the caller's autocast."""
    return torch.autocast(tensor.device.type, enabled=False)
