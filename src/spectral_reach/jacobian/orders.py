"""Whether the rows of a unit stand together where the axis of the units is merged with another one.

Shapes cannot tell ``index = unit * rows + row`` from ``index = row * units + unit``. Two things can: a reshape of the
same tensor that gives the units an axis of their own, and the places where a gradient that starts at one unit is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from torch import Tensor
from torch.autograd.graph import Node

from spectral_reach.jacobian.graph import Graph, shape_of
from spectral_reach.jacobian.layout import Layout, NotByUnitError, find_layout, only_unit
from spectral_reach.jacobian.uses import Uses

_RESHAPES = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"})
_CHOICES = frozenset(
    f"{name}Backward0"
    for name in ("Index", "IndexSelect", "MaskedSelect", "Gather", "Take", "Sort", "RepeatInterleave")
)
"""Operations that can pick rows by the data. How many rows a unit has after them differs from batch to batch."""


def find_orders(
    graph: Graph,
    uses: Uses,
    at_uses: Mapping[Node, Tensor | None],
    twin: Mapping[Node, Node],
    n_units: int,
    unit: int,
) -> tuple[dict[Node, bool], dict[str, str]]:
    """``Layout.unit_major`` for each operation, and the parameters for which it cannot be told, with the reason.

    Args:
        graph: of a pass over a few units.
        uses: in that graph.
        at_uses: gradients of the operations' outputs that start at ``unit``.
        twin: the same nodes in a pass over ``n_units``.

    Raises:
        NotByUnitError: a gradient that starts at one unit reaches another.
    """
    chosen = _above_a_choice(graph, twin)
    orders: dict[Node, bool] = {}
    untold: dict[str, str] = {}
    for name, found in uses.known.items():
        for each in found:
            node, layout = each.use.node, each.use.layout
            shown = _shown_by_reshape(graph, node, layout, twin, n_units)
            if shown is None and node in chosen:
                untold[name] = "the operation that uses it may work on rows picked by the data"
                continue
            gradient = at_uses[node]
            possible = [
                order
                for order in ((True,) if layout.rows == 1 else (True, False))
                if gradient is None or only_unit(replace(layout, unit_major=order), gradient, unit)
            ]
            if layout.rows == 1 or shown is None:
                if not possible:
                    raise NotByUnitError(_coupled(name))
                if len(possible) > 1:
                    untold[name] = "the order of units and rows in the operation that uses it cannot be told"
                    continue
                orders[node] = possible[0]
            elif shown in possible:
                orders[node] = shown
            else:
                raise NotByUnitError(_coupled(name))
    return orders, untold


def _coupled(name: str) -> str:
    return f"units see each other: the gradient of one reaches others where parameter {name!r} is used"


def _shown_by_reshape(graph: Graph, node: Node, layout: Layout, twin: Mapping[Node, Node], n_units: int) -> bool | None:
    """The order that a reshape of the operation's output shows, by giving the units an axis of their own."""
    merged = shape_of(node)
    for taken in graph.takers.get(node, ()):
        if taken.node.name() not in _RESHAPES:
            continue
        shape = shape_of(taken.node)
        try:
            separate = find_layout(shape, layout.n_units, shape_of(twin[taken.node]), n_units)
        except NotByUnitError:
            continue
        if separate is None or separate.rows != 1:
            continue
        # What comes before the units in memory is what came before the merged axis, or what comes after them.
        if prod(shape[: separate.axis]) == prod(merged[: layout.axis]):
            return True
        if prod(shape[separate.axis + 1 :]) == prod(merged[layout.axis + 1 :]):
            return False
    return None


def _above_a_choice(graph: Graph, twin: Mapping[Node, Node]) -> set[Node]:
    """Operations that depend on rows which an operation may have picked among those of the units."""
    todo = [
        node
        for node in graph.nodes
        if node.name() in _CHOICES
        and any(
            source is not None and shape_of(source, number) != shape_of(twin[source], number)
            for source, number in node.next_functions
        )
    ]
    above = set(todo)
    while todo:
        for taken in graph.takers.get(todo.pop(), ()):
            if taken.node not in above:
                above.add(taken.node)
                todo.append(taken.node)
    return above
