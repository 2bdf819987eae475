"""Gradients of every unit from one backward pass over the batch.

The pass is only asked for what it must propagate: gradients flow through the operations, and where one takes a
parameter its layer rule turns the gradient of its output into the gradients of the units (``uses``). No weight gradient
of the whole batch is formed, and nothing is kept for longer than the uses of one parameter need.

Whether that is right for a model is not assumed but found out, each time, on a few of the units in a pass of their
own: the shapes tell where the units are, a gradient that starts at one unit must reach no other, and the squared norm
by each parameter's rules must be that of an ordinary backward pass. Parameters without a rule get an ordinary pass for
each unit alone. What remains is ``reason``: why the units of this model cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.utils.checkpoint import CheckpointError

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.agreement import same_outputs, tolerance_of
from spectral_reach.jacobian.forms import Dense, Form
from spectral_reach.jacobian.graph import Graph, edge, shape_of
from spectral_reach.jacobian.layout import Layout, NotByUnitError, find_layout, only_unit
from spectral_reach.jacobian.uses import ParameterUse, Uses, find_uses, same_operations, with_layouts
from spectral_reach.jacobian.vjp import not_finite, vjp
from spectral_reach.measured.batch_norm import NotReplayableError
from spectral_reach.measured.linearisation import Linearisation

Take = Callable[[str, Sequence[Form]], None]
"""Called once a parameter with its name and the forms whose sum its gradients by unit are."""

_PROBED = 1
"""Which of the few units the check starts its gradient at: the second, for a first one could hide a wrong order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitBackward:
    """Backward passes by unit over one linearisation.

    Attributes:
        linearisation: what it is over.
        uses: where parameters meet units, as far as it is known.
        reason: why there are no gradients by unit; empty if there are.
    """

    linearisation: Linearisation
    graph: Graph
    uses: Uses
    reason: str

    @classmethod
    def of(cls, linearisation: Linearisation) -> UnitBackward:
        """Found out once for each linearisation."""
        if linearisation not in _FOUND:
            _FOUND[linearisation] = _find(linearisation)
        return _FOUND[linearisation]

    def over(self, units: Tensor) -> UnitBackward | None:
        """The same for some of the units, from a forward pass of their own; None where that gives other outputs.

        ``units`` (m,) int64, each once.
        """
        whole = self.linearisation
        if whole.drew_random_numbers or len(units) == whole.n_units_in_batch:
            return None
        part = whole.of_units(units)
        chosen = torch.cat([(whole.unit_of_row == unit).nonzero().squeeze(1) for unit in units])
        if not same_outputs(part.f, whole.f[chosen], tolerance_of(whole)):
            return None
        graph = Graph.below(part.outputs, part.parameters)
        if not same_operations(graph, self.graph):
            return None
        uses = find_uses(graph, len(units), self.graph, whole.n_units_in_batch, part.parameters)
        orders = {each.use.node: each.use.layout.unit_major for found in self.uses.known.values() for each in found}
        twin = dict(zip(graph.nodes, self.graph.nodes, strict=True))
        known = {name: found for name, found in uses.known.items() if name in self.uses.known}
        uses = with_layouts(
            Uses(known=known, unknown=self.uses.unknown), {node: orders.get(twin[node], True) for node in graph.nodes}
        )
        return UnitBackward(linearisation=part, graph=graph, uses=uses, reason="")

    def squared_norms(
        self,
        cotangent: Tensor,
        *,
        root: GradientEdge | None = None,
        without: Node | None = None,
        also: Take | None = None,
    ) -> Tensor:
        """||J_i^T v_i||^2 of each labelled unit, (n_units,) float64 on the CPU.

        Args:
            cotangent: v, (N, K); or, with ``root``, of its shape.
            root: start there instead of at the labelled outputs.
            without: leave out the parameters that this operation takes.
            also: shown the forms of every parameter too.
        """
        norms = torch.zeros(self.linearisation.n_units_in_batch, dtype=torch.float64)

        def take(name: str, found: Sequence[Form]) -> None:
            norms.add_(forms.squared_norms(found).cpu())
            if also is not None:
                also(name, found)

        self._run(cotangent, take, root, without)
        return norms[self.linearisation.unit_in_batch.cpu()]

    def inner_products(self, cotangent: Tensor) -> Tensor:
        """<J_i^T v_i, J_j^T v_j> for all pairs of labelled units, (n_units, n_units) float64 on the CPU.

        Raises:
            ValueError: they are not finite.
        """
        n_units, labelled = self.linearisation.n_units_in_batch, self.linearisation.unit_in_batch.cpu()
        products = torch.zeros(n_units, n_units, dtype=torch.float64)

        def take(name: str, found: Sequence[Form]) -> None:
            for block in forms.blocks(forms.total(found)):
                gradients = block.flatten(1)
                product = (gradients @ gradients.mT).to(torch.float64).cpu()
                if not bool(product.isfinite().all()):
                    raise ValueError(not_finite(name))
                products.add_(product)

        self._run(cotangent, take, None, None)
        return products[labelled][:, labelled]

    def _run(self, cotangent: Tensor, take: Take, root: GradientEdge | None, without: Node | None) -> None:
        assert not self.reason, self.reason
        known = {
            name: [each for each in found if each.use.node is not without] for name, found in self.uses.known.items()
        }
        start = self.linearisation.f if root is None else root
        _backward(self.graph, start, cotangent, known, take)
        if self.uses.unknown:
            assert root is None, "passes of their own start at the outputs"
            _own_passes(self.linearisation, cotangent, list(self.uses.unknown), take)


_FOUND: WeakKeyDictionary[Linearisation, UnitBackward] = WeakKeyDictionary()


def _backward(
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
        with _plain_arithmetic(cotangent):
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
    with torch.no_grad(), _plain_arithmetic(cotangent):
        for node, gradient in zip(bottom, gradients, strict=True):
            arrived(node, gradient)
        # Operations that the root does not depend on have no gradient, but their parameters may have others.
        for node in by_node:
            if node not in seen:
                arrived(node, None)


def _plain_arithmetic(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _own_passes(linearisation: Linearisation, cotangent: Tensor, names: Sequence[str], take: Take) -> None:
    """The parameters ``names`` by an ordinary backward pass of each unit alone."""
    parameters = {name: linearisation.parameters[name] for name in names}
    gradients = {
        name: p.new_zeros((linearisation.n_units_in_batch, *p.shape), dtype=torch.promote_types(p.dtype, torch.float32))
        for name, p in parameters.items()
    }
    for unit in range(linearisation.n_units):
        alone = replace(linearisation.of_units(torch.tensor([unit])), parameters=parameters)
        where = int(linearisation.unit_in_batch[unit])
        of_unit = vjp(alone.f, cotangent[linearisation.unit_of_row == unit], alone)
        for name, gradient in zip(names, of_unit, strict=True):
            gradients[name][where] = gradient
    for name in names:
        take(name, [Dense.of(gradients[name])])


# --- finding out -----------------------------------------------------------------------------------------------------


def _find(linearisation: Linearisation) -> UnitBackward:
    graph = Graph.below(linearisation.outputs, linearisation.parameters)
    none = Uses(known={}, unknown={})
    try:
        uses = _checked_uses(linearisation, graph)
    except (NotByUnitError, NotReplayableError) as error:
        return UnitBackward(linearisation=linearisation, graph=graph, uses=none, reason=str(error))
    except CheckpointError:
        reason = "the model recomputes activations in its backward pass (activation checkpointing)"
        return UnitBackward(linearisation=linearisation, graph=graph, uses=none, reason=reason)
    reason = ""
    if uses.unknown:
        name, why = next(iter(uses.unknown.items()))
        if linearisation.drew_random_numbers:
            reason = f"parameter {name!r}: {why}, and the forward pass draws random numbers that no second pass repeats"
        elif not _units_stand_alone(linearisation):
            reason = f"parameter {name!r}: {why}, and a unit has other outputs alone than in the batch"
    return UnitBackward(linearisation=linearisation, graph=graph, uses=uses, reason=reason)


def _checked_uses(linearisation: Linearisation, graph: Graph) -> Uses:
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
        _backward(graph, small.f, cotangent, uses.known, take)
    except NotByUnitError:
        # One of the rules refuses: find out which by trying each parameter alone.
        for name in names:
            try:
                _backward(graph, small.f, cotangent, {name: uses.known[name]}, take)
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


def _units_stand_alone(linearisation: Linearisation) -> bool:
    """Whether every unit has the outputs in a pass of its own that it has in the batch."""
    tolerance = tolerance_of(linearisation)
    for unit in range(linearisation.n_units):
        alone = linearisation.of_units(torch.tensor([unit])).f
        if not same_outputs(alone, linearisation.f[linearisation.unit_of_row == unit], tolerance):
            return False
    return True
