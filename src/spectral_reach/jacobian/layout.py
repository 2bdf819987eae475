"""Where the units of a batch are in a tensor: as an axis of their own, or merged with another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class NotByUnitError(ValueError):
    """An operation mixes the units, or holds them in a way that is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """``axis`` of a tensor has ``n_units * rows`` entries.

    Attributes:
        axis: which one.
        n_units: B, labelled or not.
        rows: entries of one unit.
        unit_major: whether the rows of a unit stand together (index = unit * rows + row) or apart
            (index = row * n_units + unit). One row a unit is both.
    """

    axis: int
    n_units: int
    rows: int
    unit_major: bool = True

    def by_unit(self, tensor: Tensor) -> Tensor:
        """(B, rows, *other axes in their order)."""
        shape = (self.n_units, self.rows) if self.unit_major else (self.rows, self.n_units)
        split = torch.unflatten(tensor.movedim(self.axis, 0), 0, shape)
        return split if self.unit_major else split.transpose(0, 1)


def find_layout(shape: Sequence[int], n_units: int, other: Sequence[int], other_units: int) -> Layout | None:
    """The layout behind the shapes of one tensor in passes over two numbers of units; None if they are equal.

    Whether units or rows come first in a merged axis no shape can tell; ``unit_major`` is set.

    Raises:
        NotByUnitError: the shapes differ otherwise than by an axis of units.
    """
    if tuple(shape) == tuple(other):
        return None
    differing = [axis for axis, (a, b) in enumerate(zip(shape, other, strict=False)) if a != b]
    if len(shape) == len(other) and len(differing) == 1:
        axis = differing[0]
        rows, rest = divmod(shape[axis], n_units)
        if rest == 0 and rows >= 1 and other[axis] == rows * other_units:
            return Layout(axis=axis, n_units=n_units, rows=rows)
    raise NotByUnitError(
        f"a tensor of shape {tuple(shape)} for {n_units} units has shape {tuple(other)} for {other_units}"
    )


def units_with_gradient(layout: Layout, gradient: Tensor) -> Tensor:
    """Which units the non-zero entries belong to, (B,) bool."""
    return layout.by_unit(gradient).flatten(1).ne(0).any(1)


def only_unit(layout: Layout, gradient: Tensor, unit: int) -> bool:
    """Whether every non-zero entry belongs to ``unit``."""
    others = units_with_gradient(layout, gradient)
    return not bool(others[torch.arange(len(others), device=others.device) != unit].any())
