"""Finding out, on a few units, where the units of a model are and whether the layer rules hold for it.

Nothing is assumed of a model. A pass over two of the units of a batch is compared with the pass over all of them: the
shapes tell in which axis the units are; a gradient that starts at one unit must reach no other; and the squared norm
by each parameter's rules must be that of an ordinary backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import Node

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.backward_pass import backward_by_unit
from spectral_reach.jacobian.forms import Form
from spectral_reach.jacobian.graph import Graph, edge, shape_of
from spectral_reach.jacobian.layout import Layout, NotByUnitError, find_layout, only_unit
from spectral_reach.jacobian.uses import ParameterUse, Uses, find_uses, same_operations, with_layouts
from spectral_reach.jacobian.vjp import vjp
from spectral_reach.measured.batch_norm import NotReplayableError
from spectral_reach.measured.linearisation import Linearisation

_PROBED = 1
"""Which of the few units the check starts its gradient at: the second, for a first one could hide a wrong order."""


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

    cotangent = torch.zeros_like(small.f)
    chosen = small.unit_of_row == _PROBED
    random = torch.Generator(small.f.device).manual_seed(0)
    cotangent[chosen] = torch.randn((int(chosen.sum()), small.n_outputs), generator=random, device=small.f.device).to(
        small.f.dtype
    )
    twin = dict(zip(other.nodes, graph.nodes, strict=True))
    orders = _orders(small, other, trial, cotangent, twin, n_units)
    trial = with_layouts(trial, orders)
    uses = with_layouts(uses, {twin[node]: order for node, order in orders.items()})
    wrong = _disagreements(small, other, trial, cotangent)
    return Uses(
        known={name: found for name, found in uses.known.items() if name not in wrong},
        unknown={**uses.unknown, **wrong},
    )


def _small_pass(linearisation: Linearisation, graph: Graph) -> tuple[Linearisation, Graph]:
    """A pass over a few units that does the operations of the whole batch.

    Raises:
        NotByUnitError: there is none; the message says what came in its place.
    """
    for few in _some_units(linearisation):
        try:
            small = linearisation.of_units(few)
        except NotReplayableError:
            raise
        except Exception as error:  # whatever a model raises that has to see the whole batch
            raise NotByUnitError(f"the model does not run on a few of its units: {error!r}") from error
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


def _orders(
    small: Linearisation,
    graph: Graph,
    uses: Uses,
    cotangent: Tensor,
    twin: Mapping[Node, Node],
    n_units: int,
) -> dict[Node, bool]:
    """For each operation with units whether those stand together (``Layout.unit_major``).

    Raises:
        NotByUnitError: a gradient that starts at one unit reaches another.
    """
    nodes: dict[Node, ParameterUse] = {}
    for each in (each for found in uses.known.values() for each in found):
        nodes.setdefault(each.use.node, each)
    if not nodes:
        return {}
    gradients = torch.autograd.grad(
        small.f, [edge(node) for node in nodes], cotangent, retain_graph=True, allow_unused=True
    )
    orders = {}
    for (node, each), gradient in zip(nodes.items(), gradients, strict=True):
        layout = each.use.layout
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


def _disagreements(small: Linearisation, graph: Graph, uses: Uses, cotangent: Tensor) -> dict[str, str]:
    """Parameters whose rules give another squared norm than an ordinary backward pass, or refuse, with the reason."""
    names = list(uses.known)
    expected = dict.fromkeys(names, 0.0)
    for name, gradient in zip(names, vjp(small.f, cotangent, _restricted(small, names)), strict=True):
        expected[name] = float(forms.row_squares(gradient.reshape(1, -1)).sum())
    scale = sum(expected.values())
    tolerance = tolerance_of(small)
    wrong: dict[str, str] = {}
    got = dict.fromkeys(names, 0.0)
    where = int(small.unit_in_batch[_PROBED])

    def take(name: str, found: Sequence[Form]) -> None:
        norms = forms.squared_norms(found)
        got[name] = float(norms[where])
        if float(norms.sum()) - got[name] > tolerance**2 * scale:
            wrong[name] = "by its layer rule the gradient of one unit reaches others"

    try:
        backward_by_unit(graph, small.f, cotangent, uses.known, take)
    except NotByUnitError:
        # One of the rules refuses: find out which by trying each parameter alone.
        for name in names:
            try:
                backward_by_unit(graph, small.f, cotangent, {name: uses.known[name]}, take)
            except NotByUnitError as refusal:
                wrong[name] = str(refusal)
    for name in names:
        if name not in wrong and abs(got[name] - expected[name]) > tolerance * expected[name] + tolerance**2 * scale:
            wrong[name] = (
                f"its layer rule gives a squared gradient norm of {got[name]:g} where a backward pass gives "
                f"{expected[name]:g}"
            )
    return wrong


def _restricted(linearisation: Linearisation, names: Sequence[str]) -> Linearisation:
    return replace(linearisation, parameters={name: linearisation.parameters[name] for name in names})
