"""The autograd graph of one forward pass, read from the outputs down to the parameters.

Node by node it says which operation took which tensor, and from that follow the places where a parameter meets the
units of a batch, whatever module called the operation. Two passes of one model over batches of different sizes give
graphs of the same nodes in the same order; the axis in which their shapes differ is the axis of the units.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """A tensor, the output ``number`` of ``source``, is input ``slot`` of ``node``."""

    node: Node
    slot: int
    source: Node
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """The nodes below a tensor.

    Attributes:
        nodes: each once, in an order that depends on the structure alone.
        takers: for each node who takes its outputs.
        leaves: the node that stands for each parameter that the tensor depends on, by name.
        operations: equal for graphs of the same operations on the results of the same operations and parameters.
    """

    nodes: Sequence[Node]
    takers: Mapping[Node, Sequence[Taken]]
    leaves: Mapping[str, Node]
    operations: Hashable

    @classmethod
    def below(cls, outputs: Tensor, parameters: Mapping[str, nn.Parameter]) -> Graph:
        """The graph of ``outputs`` down to its leaves."""
        names = {id(parameter): name for name, parameter in parameters.items()}
        root = torch.autograd.graph.get_gradient_edge(outputs).node
        nodes: dict[Node, int] = {root: 0}
        takers: dict[Node, list[Taken]] = {}
        leaves: dict[str, Node] = {}
        operations: list[Hashable] = []
        todo = [root]
        while todo:
            node = todo.pop()
            parameter = names.get(id(getattr(node, "variable", None)), "")
            if parameter:
                leaves[parameter] = node
            operations.append((node.name(), parameter))
            for slot, (source, number) in enumerate(node.next_functions):
                if source is None:
                    continue
                takers.setdefault(source, []).append(Taken(node=node, slot=slot, source=source, number=number))
                if source not in nodes:
                    nodes[source] = len(nodes)
                    todo.append(source)
                operations.append((slot, nodes[source], number))
        return cls(nodes=tuple(nodes), takers=takers, leaves=leaves, operations=tuple(operations))

    def bottommost(self, chosen: set[Node]) -> list[Node]:
        """Those of ``chosen`` from which no other chosen one is reached. A backward pass to them passes all."""
        above: dict[Node, bool] = {}  # whether some chosen node is reached from this one, itself not counted
        for node in self._bottom_up():
            above[node] = any(
                source in chosen or above[source] for source, _ in node.next_functions if source is not None
            )
        return [node for node in self.nodes if node in chosen and not above[node]]

    def _bottom_up(self) -> Iterator[Node]:
        waiting = {node: sum(source is not None for source, _ in node.next_functions) for node in self.nodes}
        ready = [node for node, count in waiting.items() if count == 0]
        while ready:
            node = ready.pop()
            yield node
            for taken in self.takers.get(node, ()):
                waiting[taken.node] -= 1
                if waiting[taken.node] == 0:
                    ready.append(taken.node)


def keeps_its_tensors(node: Node) -> bool:
    """Whether what the operation saved is at hand, and not with a hook, as activation checkpointing has it."""
    saved = (getattr(node, name) for name in _names_of_saved(type(node)))
    each = (tensor for found in saved for tensor in (found if isinstance(found, (list, tuple)) else (found,)))
    return all(getattr(tensor, "unpack_hook", None) is None for tensor in each)


@cache
def _names_of_saved(kind: type[Node]) -> tuple[str, ...]:
    return tuple(name for name in dir(kind) if name.startswith("_raw_saved_"))


def shape_of(node: Node, number: int = 0) -> tuple[int, ...]:
    """The shape of an output of the node's operation."""
    return tuple(node._input_metadata[number].shape)


def saved(node: Node, name: str) -> Any:
    """What the operation saved for its backward pass under this name, a tensor as a constant of the measurement."""
    value = getattr(node, f"_saved_{name}")
    return value.detach() if isinstance(value, Tensor) else value


def edge(node: Node) -> GradientEdge:
    """The first output of the node's operation, as autograd takes it for an input or an output of a gradient."""
    return GradientEdge(node, 0)
