"""Where each parameter meets the units of a batch.

From a parameter's leaf the graph is followed upwards through operations whose results are the same for every unit (a
transposition, a slice, a weight norm, an embedding of positions) to those whose output has units in it. There the
gradient of a unit can be told from that of the batch; a layer rule says how, and what lies between that place and
the parameter is an ordinary vector-Jacobian product for each unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from spectral_reach.jacobian.forms import Dense, Form, OuterProducts
from spectral_reach.jacobian.graph import Graph, Taken, shape_of
from spectral_reach.jacobian.layout import NotByUnitError, find_layout
from spectral_reach.jacobian.rules import Use, find_rule

_SAME = frozenset({"ToCopyBackward0", "AliasBackward0"})
"""Operations under which a gradient keeps its shape and its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterUse:
    """One place where a parameter meets the units.

    Attributes:
        name: of the parameter.
        use: the operation.
        source: where the operation takes it from: the parameter itself or what was made of it.
        transposed: whether that is the transposed parameter; None if it is anything but that or the parameter.
        parameter: itself.
    """

    name: str
    use: Use
    source: GradientEdge
    transposed: bool | None
    parameter: nn.Parameter

    def form(self, d: Tensor) -> Form:
        """Gradients of the parameter by unit, from the gradient of the operation's output."""
        form = find_rule(self.use.node, self.use.slot)(self.use, d)
        if self.transposed is False:
            return form
        if self.transposed and isinstance(form, OuterProducts):
            return form.transposed
        gradients = form.block(0, form.rows).reshape(form.n_units, *self.use.shape)
        (pulled,) = torch.autograd.grad(
            [self.source],
            [self.parameter],
            [gradients.to(self.source.node._input_metadata[self.source.output_nr].dtype)],
            is_grads_batched=True,
            retain_graph=True,
        )
        return Dense.of(pulled)


@dataclass(frozen=True, kw_only=True, slots=True)
class Uses:
    """The uses of every parameter, or why they are not known.

    Attributes:
        known: of each parameter that a pass over the batch covers; none for one that the outputs do not depend on.
        unknown: for each other parameter the reason.
    """

    known: Mapping[str, Sequence[ParameterUse]]
    unknown: Mapping[str, str]


def same_operations(graph: Graph, other: Graph) -> bool:
    """Whether two graphs do the same in the same order."""
    return [node.name() for node in graph.nodes] == [node.name() for node in other.nodes]


def find_uses(
    graph: Graph, n_units: int, other: Graph, other_units: int, parameters: Mapping[str, nn.Parameter]
) -> Uses:
    """The uses in ``graph``; ``other`` is the graph of the same operations on another number of units."""
    twin = dict(zip(graph.nodes, other.nodes, strict=True))
    known: dict[str, list[ParameterUse]] = {}
    unknown: dict[str, str] = {}
    for name, parameter in parameters.items():
        known[name] = []
        try:
            for taken, steps in _meetings(graph, name, twin):
                layout = find_layout(shape_of(taken.node), n_units, shape_of(twin[taken.node]), other_units)
                assert layout is not None
                find_rule(taken.node, taken.slot)
                known[name].append(
                    ParameterUse(
                        name=name,
                        use=Use(
                            node=taken.node,
                            slot=taken.slot,
                            shape=shape_of(taken.source, taken.number),
                            layout=layout,
                        ),
                        source=GradientEdge(taken.source, taken.number),
                        transposed=_transposed(steps, parameter),
                        parameter=parameter,
                    )
                )
        except NotByUnitError as reason:
            del known[name]
            unknown[name] = str(reason)
    return Uses(known=known, unknown=unknown)


def without(uses: Uses, reasons: Mapping[str, str]) -> Uses:
    """The same with some more parameters unknown, for these reasons."""
    return Uses(
        known={name: found for name, found in uses.known.items() if name not in reasons},
        unknown={**uses.unknown, **reasons},
    )


def with_layouts(uses: Uses, unit_major: Mapping[Node, bool]) -> Uses:
    """The same uses with the order of units and rows that was found for each operation."""

    def arranged(each: ParameterUse) -> ParameterUse:
        layout = replace(each.use.layout, unit_major=unit_major[each.use.node])
        return replace(each, use=replace(each.use, layout=layout))

    return replace(uses, known={name: [arranged(each) for each in found] for name, found in uses.known.items()})


def _meetings(graph: Graph, name: str, twin: Mapping[Node, Node]) -> Iterator[tuple[Taken, list[str]]]:
    """Where tensors made of the parameter are taken by operations with units, and the operations on the way there."""
    if name not in graph.leaves:
        return
    leaf = graph.leaves[name]
    seen: set[tuple[Node, int]] = set()
    met: set[tuple[Node, int]] = set()
    todo: list[tuple[Node, list[str]]] = [(leaf, [])]
    while todo:
        source, steps = todo.pop()
        for taken in graph.takers.get(source, ()):
            outputs = range(len(taken.node._input_metadata))
            if all(shape_of(taken.node, nr) == shape_of(twin[taken.node], nr) for nr in outputs):
                if (taken.node, 0) not in seen:
                    seen.add((taken.node, 0))
                    todo.append((taken.node, [*steps, taken.node.name()]))
            elif (taken.node, taken.slot) not in met:
                met.add((taken.node, taken.slot))
                yield taken, steps


def _transposed(steps: Sequence[str], parameter: nn.Parameter) -> bool | None:
    changes = [step for step in steps if step not in _SAME]
    if not changes:
        return False
    if parameter.ndim == 2 and set(changes) == {"TBackward0"}:
        return len(changes) % 2 == 1
    return None
