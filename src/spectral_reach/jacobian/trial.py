"""Finding out, on a few units, where the units of a model are and whether the layer rules hold for it.

Nothing is assumed of a model. A pass over two of the units of a batch is compared with the pass over all of them: the
shapes tell in which axis the units are; a gradient that starts at one unit must reach no other; and the squared norm
by each parameter's rules must be that of an ordinary backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.backward_pass import plain_arithmetic
from spectral_reach.jacobian.grams import Grams
from spectral_reach.jacobian.graph import Graph, edge
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.orders import find_orders
from spectral_reach.jacobian.uses import Uses, find_uses, same_operations, with_layouts, without
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
    orders, untold = find_orders(other, trial, found.at_uses, twin, n_units, _PROBED)
    trial = with_layouts(without(trial, untold), orders)
    wrong = _disagreements(small, trial, found)
    return with_layouts(without(uses, {**untold, **wrong}), {twin[node]: order for node, order in orders.items()})


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
    # From all outputs of the unit, labelled or not, so that as many rows as can be have a gradient.
    random = torch.Generator(small.f.device).manual_seed(0)
    directions = torch.randn(small.outputs.shape[1:], generator=random, device=small.f.device)
    cotangent = torch.zeros_like(small.outputs)
    cotangent[_PROBED] = directions.to(cotangent.dtype)
    nodes = list(dict.fromkeys(each.use.node for found in uses.known.values() for each in found))
    asked: list[Any] = [*map(edge, nodes), *(small.parameters[name] for name in uses.known)]
    if not asked:
        return _Found(at_uses={}, squared_norms={})
    gradients = torch.autograd.grad(
        small.outputs,
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
    Two copies of one unit would hide that units see each other: some couplings have no gradient there.

    Raises:
        NotByUnitError: there are no two.
    """
    samples = linearisation.samples_of_unit
    n_units, last = linearisation.n_units_in_batch, linearisation.n_units - 1
    if n_units > 1 and last == 0:
        raise NotByUnitError("one unit of several carries labels; whether it sees the others cannot be tried out")
    short, long = int(samples.argmin()), int(samples.argmax())
    for few in ([short, long], [0, last], [last, 0]):
        if few[0] != few[1] or n_units == 1:
            yield torch.tensor(few if n_units != 2 else [*few, few[0]])


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
                forms_here = [each.form(d) for each, d in gradients]
                norms = forms.squared_norms(forms_here, Grams()) if gradients else torch.zeros(1)
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
