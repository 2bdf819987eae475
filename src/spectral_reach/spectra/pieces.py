"""The chosen outputs in pieces that have graphs of their own: unit by unit, where the units do not see each other.

A backward pass from one output of a unit runs through the graph of its piece. With units apart that is the unit alone;
over one graph for all of them every direction would pay for the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.jacobian.agreement import same_outputs, tolerance_of
from spectral_reach.jacobian.forms import norm
from spectral_reach.jacobian.jacobian import signs
from spectral_reach.jacobian.vjp import vjp
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.output_space import OutputSpace


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Piece:
    """Some of the chosen samples with all of the chosen classes.

    Attributes:
        outputs: (m, k), with their graph.
        linearisation: whose graph that is.
        samples: (m,) int64, where they stand among the n samples of the space.
    """

    outputs: Tensor
    linearisation: Linearisation
    samples: Tensor


def whole(linearisation: Linearisation, space: OutputSpace) -> Iterator[Piece]:
    """One piece, on the graph of the whole batch."""
    samples = torch.arange(space.shape[0], device=linearisation.f.device)
    yield Piece(outputs=space.of(linearisation.f), linearisation=linearisation, samples=samples)


def by_unit(linearisation: Linearisation, space: OutputSpace) -> Iterator[Piece]:
    """A piece for every unit with a chosen sample, each from a forward pass of its own."""
    unit_of_sample = linearisation.unit_of_row[space.samples]
    for unit in torch.unique(unit_of_sample).tolist():
        alone = linearisation.of_units(torch.tensor([unit]))
        rows = (linearisation.unit_of_row == unit).nonzero().squeeze(1)
        samples = (unit_of_sample == unit).nonzero().squeeze(1)
        # Rows of a unit keep their order, and rows of f ascend with it.
        place = torch.searchsorted(rows, space.samples[samples])
        outputs = alone.f.index_select(0, place).index_select(1, space.classes)
        yield Piece(outputs=outputs, linearisation=alone, samples=samples)


def units_stand_alone(linearisation: Linearisation, space: OutputSpace, random: torch.Generator) -> bool:
    """Whether the pieces ``by_unit`` have together the outputs and the Jacobian of the whole batch.

    The Jacobian is asked for one random direction v: sum_i J_i^T v_i = J^T v, parameter by parameter. Equal outputs
    alone would not tell: a coupling that is switched off at this point still has a derivative.
    """
    if linearisation.drew_random_numbers or linearisation.n_units == 1:
        return False
    tolerance = tolerance_of(linearisation)
    f = space.of(linearisation.f)
    v = signs(f, random)
    expected = vjp(f, v, linearisation)
    sums = [torch.zeros_like(each) for each in expected]
    try:
        for piece in by_unit(linearisation, space):
            if not same_outputs(piece.outputs, f[piece.samples], tolerance):
                return False
            for total, part in zip(sums, vjp(piece.outputs, v[piece.samples], piece.linearisation), strict=True):
                total += part
    except Exception:
        # Whatever a model raises that cannot run on one unit: the graph of the whole batch needs no such thing.
        return False
    scale = max(norm(each) for each in expected)
    pairs = zip(sums, expected, strict=True)
    return all(norm(got - wanted) <= tolerance * (norm(wanted) + scale / 100) for got, wanted in pairs)
