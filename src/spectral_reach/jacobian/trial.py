"""Finding out, on a few units, where the units of a model are and whether the layer rules hold for it.

Nothing is assumed of a model. A pass over two of the units of a batch is compared with the pass over all of them: the
shapes tell in which axis the units are; a gradient that starts at one unit must reach no other; and the squared norm
by each parameter's rules must be that of an ordinary backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.backward_pass import plain_arithmetic
from spectral_reach.jacobian.graph import Graph, edge, shape_of
from spectral_reach.jacobian.layout import Layout, NotByUnitError, find_layout, only_unit
from spectral_reach.jacobian.uses import ParameterUse, Uses, find_uses, same_operations, with_layouts
from spectral_reach.jacobian.vjp import squared_norm
from spectral_reach.measured.batch_norm import NotReplayableError
from spectral_reach.measured.linearisation import Linearisation

_PROBED = 1
"""Which of the few units the check starts its gradient at: the second, for a first one could hide a wrong order."""


_LEAST_TOLERANCE = 1e-4
"""A wrong rule is far off. Parts of a float64 model may compute in float32, as the norms of transformers do."""

_HOOKS = "the model saves activations through hooks, as activation checkpointing does, and rules cannot read them"


def checked_uses(linearisation: Linearisation, graph: Graph) -> Uses:
    """Uses whose layouts and rules hold in a pass over a few units.

    Raises:
        NotByUnitError: units see each other, or the few cannot be compared with the batch.
    """
    n_units = linearisation.n_units_in_batch
    small, other = _small_pass(linearisation, graph)
    n_few = small.n_units_in_batch
    uses = find_uses(graph, n_units, other, n_few, linearisation.parameters)
    trial = find_uses(other, n_few, graph, n_units, linearisation.parameters)

    found = _backward_of_one_unit(small, trial)
    twin = dict(zip(other.nodes, graph.nodes, strict=True))
    orders = _orders(other, trial, found, twin, n_units)
    trial = with_layouts(trial, orders)
    uses = with_layouts(uses, {twin[node]: order for node, order in orders.items()})
    wrong = _disagreements(small, trial, found)
    return Uses(
        known={name: found for name, found in uses.known.items() if name not in wrong},
        unknown={**uses.unknown, **wrong},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What an ordinary backward pass from one of the units gives.

    Attributes:
        at_uses: gradients of the outputs of the operations that take parameters; None where there is none.
        squared_norms: of the gradients of the parameters, by name.
    """

    at_uses: Mapping[Node, Tensor | None]
    squared_norms: Mapping[str, float]


def _backward_of_one_unit(small: Linearisation, uses: Uses) -> _Found:
    chosen = small.unit_of_row == _PROBED
    random = torch.Generator(small.f.device).manual_seed(0)
    directions = torch.randn((int(chosen.sum()), small.n_outputs), generator=random, device=small.f.device)
    cotangent = torch.zeros_like(small.f)
    cotangent[chosen] = directions.to(cotangent.dtype)
    nodes = list(dict.fromkeys(each.use.node for found in uses.known.values() for each in found))
    asked: list[Any] = [*map(edge, nodes), *(small.parameters[name] for name in uses.known)]
    gradients = torch.autograd.grad(
        small.f,
        asked,
        cotangent,
        retain_graph=True,
        allow_unused=True,
    )
    at_uses, at_parameters = gradients[: len(nodes)], gradients[len(nodes) :]
    norms = [0.0 if g is None else squared_norm([g.to_dense() if g.is_sparse else g]) for g in at_parameters]
    return _Found(
        at_uses=dict(zip(nodes, at_uses, strict=True)),
        squared_norms=dict(zip(uses.known, norms, strict=True)),
    )


def _small_pass(linearisation: Linearisation, graph: Graph) -> tuple[Linearisation, Graph]:
    """A pass over a few units that does the operations of the whole batch.

    Raises:
        NotByUnitError: there is none; the message says what came in its place.
    """
    for few in _some_units(linearisation):
        try:
            with torch.autograd.graph.disable_saved_tensors_hooks(_HOOKS):
                small = linearisation.of_units(few)
        except NotReplayableError:
            raise
        except Exception as error:  # whatever a model raises that has to see the whole batch
            told = _HOOKS if _HOOKS in str(error) else f"the model does not run on a few of its units: {error!r}"
            raise NotByUnitError(told) from error
        other = Graph.below(small.outputs, linearisation.parameters)
        if same_operations(graph, other):
            return small, other
    raise NotByUnitError(
        f"the model does {len(graph.nodes)} operations on the whole batch and {len(other.nodes)} on a few of its "
        "units, or other ones: its course depends on the data"
    )


def _some_units(linearisation: Linearisation) -> Iterator[Tensor]:
    """Choices of a few labelled units, not as many as the batch has; the second one is probed.

    A padded unit takes operations that a batch without padding does without, so a short and a long one come first.
    """
    samples = linearisation.samples_of_unit
    last = linearisation.n_units - 1
    short, long = int(samples.argmin()), int(samples.argmax())
    for few in ([short, long], [0, last], [last, 0]):
        yield torch.tensor(few if linearisation.n_units_in_batch != 2 else [*few, few[0]])


def _orders(graph: Graph, uses: Uses, found: _Found, twin: Mapping[Node, Node], n_units: int) -> dict[Node, bool]:
    """For each operation with units whether those stand together (``Layout.unit_major``).

    Raises:
        NotByUnitError: a gradient that starts at one unit reaches another.
    """
    nodes: dict[Node, ParameterUse] = {}
    for each in (each for found_uses in uses.known.values() for each in found_uses):
        nodes.setdefault(each.use.node, each)
    orders = {}
    for node, each in nodes.items():
        layout, gradient = each.use.layout, found.at_uses[node]
        seen = _order_in_neighbour(graph, node, layout, twin, n_units)
        possible = [
            order
            for order in ((True,) if layout.rows == 1 else (True, False))
            if gradient is None or only_unit(replace(layout, unit_major=order), gradient, _PROBED)
        ]
        if not possible or (seen is not None and seen not in possible):
            raise NotByUnitError(
                f"units see each other: the gradient of one reaches others where parameter {each.name!r} is used"
            )
        if seen is None and len(possible) > 1:
            raise NotByUnitError(f"the order of units and rows where parameter {each.name!r} is used cannot be told")
        orders[node] = possible[0] if seen is None else seen
    return orders


_RESHAPES = frozenset({"ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0"})


def _order_in_neighbour(
    graph: Graph, node: Node, layout: Layout, twin: Mapping[Node, Node], n_units: int
) -> bool | None:
    """The order that a reshape of the operation's output shows, by giving the units an axis of their own."""
    for taken in graph.takers.get(node, ()):
        if taken.node.name() not in _RESHAPES:
            continue
        try:
            reshaped = find_layout(shape_of(taken.node), layout.n_units, shape_of(twin[taken.node]), n_units)
        except NotByUnitError:
            continue
        if reshaped is not None and reshaped.axis == layout.axis:
            return True
        if reshaped is not None and reshaped.axis == layout.axis + 1 and reshaped.rows == 1:
            return False
    return None


@torch.no_grad()
def _disagreements(small: Linearisation, uses: Uses, found: _Found) -> dict[str, str]:
    """Parameters whose rules give another squared norm than an ordinary backward pass, or refuse, with the reason."""
    scale = sum(found.squared_norms.values())
    tolerance = max(tolerance_of(small), _LEAST_TOLERANCE)
    where = int(small.unit_in_batch[_PROBED])
    wrong: dict[str, str] = {}
    for name, its_uses in uses.known.items():
        gradients = [(each, d) for each in its_uses if (d := found.at_uses[each.use.node]) is not None]
        try:
            with plain_arithmetic(small.f):
                norms = forms.squared_norms([each.form(d) for each, d in gradients]) if gradients else torch.zeros(1)
        except NotByUnitError as refusal:
            wrong[name] = str(refusal)
            continue
        got, expected = float(norms[where]) if gradients else 0.0, found.squared_norms[name]
        if float(norms.sum()) - got > tolerance**2 * scale:
            wrong[name] = "by its layer rule the gradient of one unit reaches others"
        elif abs(got - expected) > tolerance * expected + tolerance**2 * scale:
            wrong[name] = (
                f"its layer rule gives a squared gradient norm of {got:g} where a backward pass gives {expected:g}"
            )
    return wrong
