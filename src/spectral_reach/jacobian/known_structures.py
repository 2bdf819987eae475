"""What trials have found out about a model, for measurements that come later in its training.

A graph of the same operations on tensors of the same shapes, but for the number of units, has its units in the same
places, and the same layer rules hold for it. So the trial need not be made at every measurement: it is made at the
first, second, fourth, eighth, ... one, because what a model does with its data may change while its operations do not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from torch import nn
from torch.autograd.graph import GradientEdge

from spectral_reach.jacobian.graph import Graph, shape_of
from spectral_reach.jacobian.layout import Layout
from spectral_reach.jacobian.rules import Use
from spectral_reach.jacobian.uses import ParameterUse, Uses

_MOST_KEPT = 8
"""Structures of one model, the latest ones: a model whose course depends on its data has no end of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A use by the numbers of its nodes in the graph."""

    node: int
    slot: int
    source: int
    number: int
    layout: Layout
    other_axes: tuple[int, ...]
    shape: tuple[int, ...]
    transposed: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """Where the parameters of a model meet its units, apart from any one graph and number of units.

    Attributes:
        operations: of the graph it was found in.
        places: of each parameter.
        unknown: parameters without a rule that holds, with the reason.
    """

    operations: Hashable
    places: Mapping[str, Sequence[_Place]]
    unknown: Mapping[str, str]

    @classmethod
    def of(cls, graph: Graph, uses: Uses) -> Structure:
        """From what was found in one graph."""
        numbers = {node: number for number, node in enumerate(graph.nodes)}

        def place(each: ParameterUse) -> _Place:
            shape = shape_of(each.use.node)
            axis = each.use.layout.axis
            return _Place(
                node=numbers[each.use.node],
                slot=each.use.slot,
                source=numbers[each.source.node],
                number=each.source.output_nr,
                layout=each.use.layout,
                other_axes=shape[:axis] + shape[axis + 1 :],
                shape=each.use.shape,
                transposed=each.transposed,
            )

        places = {name: [place(each) for each in found] for name, found in uses.known.items()}
        return cls(operations=graph.operations, places=places, unknown=uses.unknown)

    def uses_in(self, graph: Graph, n_units: int, parameters: Mapping[str, nn.Parameter]) -> Uses | None:
        """The uses in another graph with so many units; None if it is of another structure."""
        if graph.operations != self.operations or parameters.keys() != self.places.keys() | self.unknown.keys():
            return None
        known: dict[str, list[ParameterUse]] = {}
        for name, places in self.places.items():
            known[name] = []
            for place in places:
                node, source, axis = graph.nodes[place.node], graph.nodes[place.source], place.layout.axis
                expected = (*place.other_axes[:axis], n_units * place.layout.rows, *place.other_axes[axis:])
                if shape_of(node) != expected or shape_of(source, place.number) != place.shape:
                    return None
                use = Use(node=node, slot=place.slot, shape=place.shape, layout=replace(place.layout, n_units=n_units))
                known[name].append(
                    ParameterUse(
                        name=name,
                        use=use,
                        source=GradientEdge(source, place.number),
                        transposed=place.transposed,
                        parameter=parameters[name],
                    )
                )
        return Uses(known=known, unknown=self.unknown)


@dataclass(kw_only=True, slots=True)
class _Known:
    structure: Structure
    condition: Hashable
    met: int


_KNOWN: WeakKeyDictionary[nn.Module, list[_Known]] = WeakKeyDictionary()


def found_before(
    model: nn.Module,
    graph: Graph,
    n_units: int,
    parameters: Mapping[str, nn.Parameter],
    condition: Hashable,
    find: Callable[[], Uses],
) -> Uses:
    """The uses of parameters as an earlier measurement of the model found them, or else by ``find``, a trial.

    Args:
        model, graph, n_units, parameters: of this measurement.
        condition: whatever else the finding depends on.
        find: may raise; then nothing is kept.
    """
    all_known = _KNOWN.setdefault(model, [])
    met = 1
    for known in all_known:
        uses = known.structure.uses_in(graph, n_units, parameters) if known.condition == condition else None
        if uses is not None:
            known.met += 1
            if known.met & (known.met - 1):
                return uses
            all_known.remove(known)
            met = known.met
            break
    uses = find()
    all_known.insert(0, _Known(structure=Structure.of(graph, uses), condition=condition, met=met))
    del all_known[_MOST_KEPT:]
    return uses
