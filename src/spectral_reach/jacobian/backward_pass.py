"""One backward pass in which the gradients of every parameter come by unit.

Autograd is asked for gradients at the lowest operations that take parameters, so it passes all others on its way and
computes no weight gradient. Hooks on the operations see the gradients of their outputs; layer rules turn these into
gradients by unit, and nothing is kept for longer than the uses of one parameter need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from spectral_reach.jacobian.forms import Form
from spectral_reach.jacobian.graph import Graph, edge
from spectral_reach.jacobian.uses import ParameterUse

Take = Callable[[str, Sequence[Form]], None]
"""Called once a parameter with its name and the forms whose sum its gradients by unit are."""


class Collector:
    """Gathers gradients of operations and hands out each parameter when the last of its uses has its own."""

    def __init__(self, known: Mapping[str, Sequence[ParameterUse]], take: Take) -> None:
        self._take = take
        self._by_node: dict[Node, list[ParameterUse]] = {}
        for each in (each for found in known.values() for each in found):
            self._by_node.setdefault(each.use.node, []).append(each)
        self._waiting = {name: len(found) for name, found in known.items()}
        self._forms: dict[str, list[Form]] = {}
        self._missing = set(self._by_node)

    @property
    def nodes(self) -> set[Node]:
        """The operations whose gradients are wanted."""
        return set(self._by_node)

    @property
    def missing(self) -> list[str]:
        """Parameters of which some use has not had its gradient yet."""
        return [name for name, count in self._waiting.items() if count > 0]

    @torch.no_grad()
    def arrived(self, node: Node, d: Tensor | None) -> None:
        """The gradient of an operation's output; None if there is none."""
        if node not in self._missing:
            return
        self._missing.remove(node)
        for each in self._by_node[node]:
            if d is not None:
                with plain_arithmetic(d):
                    self._forms.setdefault(each.name, []).append(each.form(d.detach()))
            self._waiting[each.name] -= 1
            if self._waiting[each.name] == 0 and each.name in self._forms:
                with plain_arithmetic(each.parameter):
                    self._take(each.name, self._forms.pop(each.name))

    def none_for_the_rest(self) -> None:
        """Operations that the pass did not reach have no gradient, but their parameters may have others."""
        for node in list(self._missing):
            self.arrived(node, None)


def backward_by_unit(
    graph: Graph,
    root: Tensor | GradientEdge,
    cotangent: Tensor,
    known: Mapping[str, Sequence[ParameterUse]],
    take: Take,
) -> None:
    """One pass from ``root``: ``take`` gets each parameter when the last of its uses has its gradient."""
    collector = Collector(known, take)
    bottom = graph.bottommost(collector.nodes)
    if not bottom:
        return
    gradients = _backward(collector, root, cotangent, collector.nodes.difference(bottom), [edge(n) for n in bottom])
    for node, gradient in zip(bottom, gradients, strict=True):
        collector.arrived(node, gradient)
    collector.none_for_the_rest()


def backward_with_sums(
    root: Tensor,
    cotangent: Tensor,
    known: Mapping[str, Sequence[ParameterUse]],
    take: Take,
    parameters: Sequence[nn.Parameter],
) -> Sequence[Tensor | None]:
    """The same in an ordinary backward pass, which also gives the gradients of the parameters, summed over units."""
    collector = Collector(known, take)
    gradients = _backward(collector, root, cotangent, collector.nodes, list(parameters))
    collector.none_for_the_rest()
    return gradients


def _backward(
    collector: Collector, root: Tensor | GradientEdge, cotangent: Tensor, watched: set[Node], asked: list[Any]
) -> Sequence[Tensor | None]:
    edge_of_root = root if isinstance(root, GradientEdge) else torch.autograd.graph.get_gradient_edge(root)
    cotangent = cotangent.to(edge_of_root.node._input_metadata[edge_of_root.output_nr].dtype)
    handles = [node.register_prehook(partial(_hook, collector, node)) for node in watched]
    try:
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            root, asked, cotangent, retain_graph=True, allow_unused=True
        )
        return gradients
    finally:
        for handle in handles:
            handle.remove()


def _hook(collector: Collector, node: Node, gradients: Sequence[Tensor | None]) -> None:
    collector.arrived(node, gradients[0])


def plain_arithmetic(tensor: Tensor) -> AbstractContextManager[None]:
    """Rules multiply and add in the precision of what they are given, also within the caller's autocast."""
    device = tensor.device.type
    # Entered for every use of every parameter: outside of autocast for nothing.
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
