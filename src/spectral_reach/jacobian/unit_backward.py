"""Gradients of every unit from one backward pass over the batch.

Layer rules turn the gradients of operations into gradients of parameters by unit (``uses``, ``rules``) in one pass over
the batch (``backward_pass``), where a pass over a few units has shown that they hold (``trial``). Parameters without a
rule get an ordinary pass for each unit alone. What remains is ``reason``: why the units cannot be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.agreement import same_outputs, tolerance_of
from spectral_reach.jacobian.backward_pass import Take, backward_by_unit, backward_with_sums
from spectral_reach.jacobian.forms import Dense, Form
from spectral_reach.jacobian.grams import Grams
from spectral_reach.jacobian.graph import Graph, keeps_its_tensors
from spectral_reach.jacobian.known_structures import Structure, found_before
from spectral_reach.jacobian.layout import NotByUnitError
from spectral_reach.jacobian.one_by_one import TakeGradient, handed_out
from spectral_reach.jacobian.pair_products import PairProducts
from spectral_reach.jacobian.rules import all_rules
from spectral_reach.jacobian.some_units import SomeUnitProducts, SomeUnits
from spectral_reach.jacobian.trial import checked_uses
from spectral_reach.jacobian.uses import Uses
from spectral_reach.jacobian.vjp import Gradient, not_finite, vjp
from spectral_reach.measured.batch_norm import NotReplayableError
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, eq=False)
class _Structure:
    """What is found out about a pass. It does not hold the linearisation, whose tensors go when that goes."""

    graph: Graph
    uses: Uses
    reason: str
    grams: Grams = field(default_factory=Grams)


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitBackward:
    """Backward passes by unit over one linearisation."""

    linearisation: Linearisation
    _structure: _Structure

    @classmethod
    def of(cls, linearisation: Linearisation) -> UnitBackward:
        """Found out once for each linearisation."""
        if linearisation not in _FOUND:
            _FOUND[linearisation] = _find(linearisation)
        return cls(linearisation=linearisation, _structure=_FOUND[linearisation])

    @property
    def uses(self) -> Uses:
        """Where parameters meet units, as far as it is known."""
        return self._structure.uses

    @property
    def leaves(self) -> Mapping[str, Node]:
        """The nodes at which the gradients of parameters, summed over units, arrive."""
        return self._structure.graph.leaves

    @property
    def grams(self) -> Grams:
        """Gram matrices that all passes over the graph share."""
        return self._structure.grams

    @property
    def reason(self) -> str:
        """Why there are no gradients by unit; empty if there are."""
        return self._structure.reason

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
        uses = Structure.of(self._structure.graph, self.uses).uses_in(graph, len(units), part.parameters)
        if uses is None:
            return None
        return UnitBackward(linearisation=part, _structure=_Structure(graph=graph, uses=uses, reason=""))

    def squared_norms(
        self,
        cotangent: Tensor,
        *,
        root: GradientEdge | None = None,
        without: frozenset[Node] = frozenset(),
        also: Take | None = None,
    ) -> Tensor:
        """||J_i^T v_i||^2 of each labelled unit, (n_units,) float64 on the CPU.

        Args:
            cotangent: v, (N, K); or, with ``root``, of its shape.
            root: start there instead of at the labelled outputs.
            without: leave out the parameters that these operations take.
            also: shown the forms of every parameter too.
        """
        norms = torch.zeros(self.linearisation.n_units_in_batch, dtype=torch.float64)

        def take(name: str, found: Sequence[Form]) -> None:
            norms.add_(forms.squared_norms(found, self.grams).cpu())
            if also is not None:
                also(name, found)

        self._run(cotangent, take, root, without)
        return norms[self.linearisation.unit_in_batch.cpu()]

    def squared_norms_and_sum(self, cotangent: Tensor, take_sum: TakeGradient) -> Tensor:
        """``squared_norms`` of v (N, K); ``take_sum`` gets J^T v = sum_i J_i^T v_i parameter by parameter."""
        assert not self.reason, self.reason
        whole = self.linearisation
        norms = torch.zeros(whole.n_units_in_batch, dtype=torch.float64)

        def take(name: str, found: Sequence[Form]) -> None:
            norms.add_(forms.squared_norms(found, self.grams).cpu())

        with handed_out(whole.parameters, take_sum):
            backward_with_sums(whole.f, cotangent, self.uses.known, take, list(whole.parameters.values()))
        if self.uses.unknown:
            _own_passes(whole, cotangent, list(self.uses.unknown), take)
        return norms[whole.unit_in_batch.cpu()]

    def told_apart(self) -> UnitBackward:
        """Itself, for a part of a batch.

        Raises:
            ValueError: its units cannot be told apart.
        """
        if self.reason:
            raise ValueError(
                f"the units of a micro-batch cannot be told apart: {self.reason}; expected layer rules for all of the "
                "model, or one unit at a time: micro_batch=1"
            )
        return self

    def products_with(self, cotangent: Tensor, vectors: Sequence[Gradient]) -> Tensor:
        """<J_i^T v_i, w> for each labelled unit and each w of ``vectors``, (len(vectors), n_units) float64 on the CPU.

        The vectors may be on another device than the model.
        """
        whole = self.linearisation
        by_name = [dict(zip(whole.parameters, vector, strict=True)) for vector in vectors]
        products = torch.zeros(len(vectors), whole.n_units_in_batch, dtype=torch.float64)

        def take(name: str, found: Sequence[Form]) -> None:
            start = 0
            for block in forms.blocks(forms.total(found)):
                of_units = block.flatten(1)
                stop = start + of_units.shape[1]
                for row, vector in enumerate(by_name):
                    there = vector[name].reshape(-1)[start:stop].to(of_units.device, of_units.dtype)
                    products[row].add_((of_units @ there).to(torch.float64).cpu())
                start = stop

        self._run(cotangent, take, None, frozenset())
        return products[:, whole.unit_in_batch.cpu()]

    def inner_products(self, cotangent: Tensor) -> Tensor:
        """<J_i^T v_i, J_j^T v_j> for all pairs of labelled units, (n_units, n_units) float64 on the CPU.

        Raises:
            NotFiniteError: they are not finite.
        """
        products = PairProducts(self.linearisation)
        self._run(cotangent, products.take, None, frozenset())
        if products.not_finite:
            raise not_finite(products.not_finite)
        return products.of_labelled()

    def products_of_some(self, cotangent: Tensor, units: Tensor, factor: float) -> SomeUnitProducts:
        """Products of the gradients J_i^T v_i / factor of some labelled ``units``, (m,) int64, and their sum over all.

        Raises:
            NotFiniteError: they are not finite.
        """
        assert not self.reason, self.reason
        whole = self.linearisation
        some = SomeUnits(whole, units)
        sums = backward_with_sums(whole.f, cotangent, self.uses.known, some.take, list(whole.parameters.values()))
        if self.uses.unknown:
            _own_passes(whole, cotangent, list(self.uses.unknown), some.take, units)
        for name, gradient in zip(whole.parameters, sums, strict=True):
            some.take_sum(name, gradient)
        if some.not_finite:
            raise not_finite(some.not_finite)
        return some.products(factor)

    def _run(self, cotangent: Tensor, take: Take, root: GradientEdge | None, without: frozenset[Node]) -> None:
        assert not self.reason, self.reason
        known = {
            name: [each for each in found if each.use.node not in without] for name, found in self.uses.known.items()
        }
        start = self.linearisation.f if root is None else root
        backward_by_unit(self._structure.graph, start, cotangent, known, take)
        if self.uses.unknown:
            assert root is None, "passes of their own start at the outputs"
            _own_passes(self.linearisation, cotangent, list(self.uses.unknown), take)


_FOUND: WeakKeyDictionary[Linearisation, _Structure] = WeakKeyDictionary()


def _own_passes(
    linearisation: Linearisation, cotangent: Tensor, names: Sequence[str], take: Take, units: Tensor | None = None
) -> None:
    """The parameters ``names`` by an ordinary backward pass of each unit alone, or of each of these ``units``."""
    parameters = {name: linearisation.parameters[name] for name in names}
    gradients = {
        name: p.new_zeros((linearisation.n_units_in_batch, *p.shape), dtype=torch.promote_types(p.dtype, torch.float32))
        for name, p in parameters.items()
    }
    for unit in range(linearisation.n_units) if units is None else units.tolist():
        alone = replace(linearisation.of_units(torch.tensor([unit])), parameters=parameters)
        where = int(linearisation.unit_in_batch[unit])
        of_unit = vjp(alone.f, cotangent[linearisation.unit_of_row == unit], alone)
        for name, gradient in zip(names, of_unit, strict=True):
            gradients[name][where] = gradient
    for name in names:
        take(name, [Dense.of(gradients[name])])


def _find(linearisation: Linearisation) -> _Structure:
    graph = Graph.below(linearisation.outputs, linearisation.parameters)
    # Batch normalisation is one operation with two meanings, told apart by the mode of its module.
    modes = tuple(module.training for module in linearisation.model.modules())
    condition = (linearisation.drew_random_numbers, linearisation.uses_batch_statistics, modes, all_rules())
    try:
        uses = found_before(
            linearisation.model,
            graph,
            linearisation.n_units_in_batch,
            linearisation.parameters,
            condition,
            lambda: _tried(linearisation, graph),
        )
        if not all(keeps_its_tensors(each.use.node) for found in uses.known.values() for each in found):
            raise NotByUnitError(
                "the outputs keep their activations through hooks, as activation checkpointing does, and rules cannot "
                "read them"
            )
    except (NotByUnitError, NotReplayableError) as error:
        return _Structure(graph=graph, uses=Uses(known={}, unknown={}), reason=str(error))
    return _Structure(graph=graph, uses=uses, reason="")


def _tried(linearisation: Linearisation, graph: Graph) -> Uses:
    """Uses that hold in a trial.

    Raises:
        NotByUnitError: some parameter's gradients cannot be told apart by unit.
        NotReplayableError: batch normalisation met other calls in a pass over a few units.
    """
    uses = checked_uses(linearisation, graph)
    if uses.unknown:
        name, why = next(iter(uses.unknown.items()))
        if linearisation.drew_random_numbers:
            raise NotByUnitError(
                f"parameter {name!r}: {why}, and the forward pass draws random numbers that no second pass repeats"
            )
        if not _units_stand_alone(linearisation):
            raise NotByUnitError(f"parameter {name!r}: {why}, and a unit has other outputs alone than in the batch")
    return uses


def _units_stand_alone(linearisation: Linearisation) -> bool:
    """Whether every unit has the outputs in a pass of its own that it has in the batch."""
    tolerance = tolerance_of(linearisation)
    for unit in range(linearisation.n_units):
        alone = linearisation.of_units(torch.tensor([unit])).f
        if not same_outputs(alone, linearisation.f[linearisation.unit_of_row == unit], tolerance):
            return False
    return True
