"""Products of the gradients of a few units of a batch that comes in parts, exactly and in little memory.

Gradients of parameters are large, and products of all pairs need all of them. So each of the chosen units is gone
through again, alone, for as many entries of theta at a time as there is room for; the products of these are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.jacobian.forms import BLOCK_BYTES
from spectral_reach.jacobian.one_by_one import each_gradient
from spectral_reach.jacobian.vjp import Gradient
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.measured.micro_batches import MicroBatches


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenProducts:
    """Of m units, float64 on the CPU.

    Attributes:
        pairs: <g_i, g_j>, (m, m).
        with_batch: <g_i, g> with the gradient g of all units, (m,).
    """

    pairs: Tensor
    with_batch: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    """Entries ``start`` to ``stop`` of one parameter, flattened, the ``number``-th of theta."""

    number: int
    start: int
    stop: int


def products_of_chosen(batch: MicroBatches, units: Tensor, gradient: Gradient, room: int) -> ChosenProducts:
    """Of some of the labelled ``units``, (m,) int64.

    Args:
        batch: all units.
        units: which.
        gradient: g = dL/dtheta.
        room: bytes that gradients of units may take at a time.
    """
    m = len(units)
    pairs, with_batch = torch.zeros(m, m, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    element = max(each.element_size() for each in gradient)
    for group in _groups([each.numel() for each in gradient], max(1, room // (m * element))):
        kept = [gradient[each.number].new_empty((m, each.stop - each.start)) for each in group]
        for row, unit in enumerate(units.tolist()):
            _fill(batch.part(torch.tensor([unit])), group, [each[row] for each in kept], batch.extent.n_samples)
        for stretch, rows in zip(group, kept, strict=True):
            whole = gradient[stretch.number].reshape(-1)[stretch.start : stretch.stop]
            _add_products(rows, whole, pairs, with_batch)
    return ChosenProducts(pairs=pairs, with_batch=with_batch)


def _groups(sizes: Sequence[int], most: int) -> Iterator[list[_Stretch]]:
    """All entries in their order, at most so many at a time."""
    group: list[_Stretch] = []
    left = most
    for number, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + left)
            group.append(_Stretch(number=number, start=start, stop=stop))
            left -= stop - start
            start = stop
            if not left:
                yield group
                group, left = [], most
    if group:
        yield group


def _fill(alone: Linearisation, group: Sequence[_Stretch], places: Sequence[Tensor], n_samples: int) -> None:
    """The gradient g_i of a unit that is alone, at the stretches of the group, into ``places``."""
    names = list(alone.parameters)
    wanted: dict[str, list[tuple[_Stretch, Tensor]]] = {}
    for stretch, place in zip(group, places, strict=True):
        place.zero_()
        wanted.setdefault(names[stretch.number], []).append((stretch, place))

    def take(name: str, gradient: Tensor) -> None:
        for stretch, place in wanted[name]:
            place.copy_(gradient.reshape(-1)[stretch.start : stretch.stop]).div_(n_samples)

    each_gradient(alone.f, alone.residual.to(alone.f.dtype), {name: alone.parameters[name] for name in wanted}, take)


def _add_products(rows: Tensor, whole: Tensor, pairs: Tensor, with_batch: Tensor) -> None:
    """Within blocks in the gradients' own precision, added in float64."""
    size = max(1, BLOCK_BYTES // (len(rows) * rows.element_size()))
    for block, of_batch in zip(torch.split(rows, size, 1), torch.split(whole, size), strict=True):
        pairs.add_((block @ block.mT).to(torch.float64).cpu())
        with_batch.add_((block @ of_batch).to(torch.float64).cpu())
