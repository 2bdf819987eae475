"""Gram matrices of the rows of each unit, of which half is enough, and those that several layers and passes share.

The gradient of a layer's output is new in every pass, but its input is not: query, key and value have one input, gate
and up another, and the pass that probes the network meets the inputs that the pass of the loss gradient meets too.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

_HALVED = 32
"""Rows of a unit from which on its two halves are multiplied apart: smaller products take as long as whole ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gram:
    """x_t . x_s for all rows t, s of each unit.

    Attributes:
        own: of the rows of one half with each other, (B * 2, T/2, T/2); where they are not halved, (B, T, T).
        between: of the first half with the second, (B, T/2, T/2); None where they are not halved.
    """

    own: Tensor
    between: Tensor | None

    @classmethod
    def of(cls, rows: Tensor) -> Gram:
        """Of ``rows`` (B, T, width)."""
        B, T, width = rows.shape
        if T % 2 or T < _HALVED:
            return cls(own=torch.bmm(rows, rows.mT), between=None)
        halves = rows.reshape(B * 2, T // 2, width)
        first, second = halves[::2], halves[1::2]
        return cls(own=torch.bmm(halves, halves.mT), between=torch.bmm(first, second.mT))

    def dot(self, other: Gram) -> Tensor:
        """sum_{t,s} (x_t . x_s) (y_t . y_s) of each unit, (B,) float64."""
        own = (self.own * other.own).sum((1, 2), dtype=torch.float64)
        if self.between is None or other.between is None:
            return own
        between = (self.between * other.between).sum((1, 2), dtype=torch.float64)
        return own.view(-1, 2).sum(1) + 2 * between


class Grams:
    """Those of what operations have saved, for as long as one graph is there.

    Keys tell tensors apart that exist at the same time, as all that a graph has saved do until its last pass.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Gram] = {}

    def has(self, key: Hashable | None) -> bool:
        """Whether this one costs nothing any more."""
        return key is not None and key in self._kept

    def of(self, key: Hashable | None, rows: Tensor) -> Gram:
        """Of ``rows`` (B, T, width); kept under ``key`` where it is smaller than they are."""
        if key is None or rows.shape[1] > rows.shape[2]:
            return Gram.of(rows)
        if key not in self._kept:
            self._kept[key] = Gram.of(rows)
        return self._kept[key]


def key_of_saved(tensor: Tensor) -> Hashable:
    """What tells a tensor that an operation has saved from all others, with its present values."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor._version
