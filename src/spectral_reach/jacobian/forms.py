"""Gradients of one parameter by unit, in the form in which they come: as factors, as look-ups, or as they are.

For unit i with rows t the gradient of a matrix is often a sum of outer products, G_i = sum_t l_t r_t^T. Its squared
norm needs no G_i: with the Gram matrices of the factors (``grams``) it is

    ||G_i||^2 = sum_{t,s} (l_t . l_s) (r_t . r_s),

known as ghost norms (Goodfellow 2015; Lee and Kifer 2020; Li et al. 2022); which way is cheaper depends on the shape
(Bu et al. 2022). All forms give their gradients in blocks too, where several uses of a parameter have to be added, or
products between units are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spectral_reach.jacobian.grams import Gram, Grams

BLOCK_BYTES = 2**23
"""Gradients by unit are made in blocks of about this size, so that they stay in a processor's cache."""


class Form(Protocol):
    """Gradients of a parameter of shape (rows, columns) by unit; a vector has one column a row."""

    @property
    def n_units(self) -> int:
        """B."""

    @property
    def rows(self) -> int:
        """Leading axis of the parameter."""

    @property
    def columns(self) -> int:
        """All its other axes."""

    def squared_norms(self, grams: Grams) -> Tensor:
        """||G_i||^2, (B,) float64; ``grams`` of the same graph."""

    def block(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop`` of every G_i, (B, stop - start, columns), at least float32."""

    def of_units(self, units: Tensor) -> Form:
        """The same for some of the units, (m,) int64, which keeps nothing of the others."""

    def entries(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i G_i at some ``rows`` and ``columns``, and how large it could be, (len(rows), len(columns)) each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """G_i themselves, ``gradients`` (B, rows, columns)."""

    gradients: Tensor

    @classmethod
    def of(cls, gradients: Tensor) -> Dense:
        """From (B, *shape of the parameter)."""
        by_row = gradients.flatten(2) if gradients.ndim > 2 else gradients.reshape(len(gradients), -1, 1)
        return cls(gradients=at_least_float32(by_row))

    @property
    def n_units(self) -> int:
        """B."""
        return self.gradients.shape[0]

    @property
    def rows(self) -> int:
        """Leading axis of the parameter."""
        return self.gradients.shape[1]

    @property
    def columns(self) -> int:
        """All its other axes."""
        return self.gradients.shape[2]

    def squared_norms(self, grams: Grams) -> Tensor:
        """||G_i||^2, (B,) float64."""
        return row_squares(self.gradients.flatten(1))

    def block(self, start: int, stop: int) -> Tensor:
        """Some rows of every G_i."""
        return self.gradients[:, start:stop]

    def of_units(self, units: Tensor) -> Dense:
        """The same for some of the units."""
        return Dense(gradients=self.gradients[units])

    def entries(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Some entries of their sum."""
        there = self.gradients[:, rows][:, :, columns]
        return there.sum(0), there.abs().sum(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class OuterProducts:
    """G_i = sum_t left_t right_t^T: ``left`` (B, T, rows), ``right`` (B, T, columns).

    ``left_key`` and ``right_key`` name a factor that an operation has saved (``grams.key_of_saved``).
    """

    left: Tensor
    right: Tensor
    left_key: Hashable | None = None
    right_key: Hashable | None = None

    @classmethod
    def of(cls, left: Tensor, right: Tensor, *, left_key: Hashable | None = None) -> OuterProducts:
        """From the factors in any precision."""
        return cls(left=at_least_float32(left), right=at_least_float32(right), left_key=left_key)

    @property
    def n_units(self) -> int:
        """B."""
        return self.left.shape[0]

    @property
    def rows(self) -> int:
        """Leading axis of the parameter."""
        return self.left.shape[2]

    @property
    def columns(self) -> int:
        """The other axis."""
        return self.right.shape[2]

    @property
    def transposed(self) -> OuterProducts:
        """The same for the transposed parameter."""
        return OuterProducts(left=self.right, right=self.left, left_key=self.right_key, right_key=self.left_key)

    def squared_norms(self, grams: Grams) -> Tensor:
        """||G_i||^2, (B,) float64, by Gram matrices of the factors or by the products, whichever costs less."""
        T = self.left.shape[1]
        if T == 1:
            return row_squares(self.left[:, 0]) * row_squares(self.right[:, 0])
        # Operations a unit; products are also written to memory and read again.
        factors = ((self.left_key, self.rows), (self.right_key, self.columns))
        by_gram = _OF_A_GRAM * T * sum(width for key, width in factors if not grams.has(key))
        if by_gram < self.rows * self.columns * (1 + _MEMORY / T):
            return self._by_gram(grams)
        return sum_of_blocks([self])

    def _by_gram(self, grams: Grams) -> Tensor:
        T = self.left.shape[1]
        if self.left_key is not None or self.right_key is not None:
            return grams.of(self.left_key, self.left).dot(grams.of(self.right_key, self.right))
        size = max(1, BLOCK_BYTES // (2 * T * T * self.left.element_size()))
        parts = zip(torch.split(self.left, size), torch.split(self.right, size), strict=True)
        return torch.cat([Gram.of(left).dot(Gram.of(right)) for left, right in parts])

    def block(self, start: int, stop: int) -> Tensor:
        """Some rows of every G_i."""
        return torch.bmm(self.left[:, :, start:stop].mT, self.right)

    def of_units(self, units: Tensor) -> OuterProducts:
        """The same for some of the units."""
        return OuterProducts(left=self.left[units], right=self.right[units])

    def entries(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Some entries of their sum."""
        left, right = self.left[:, :, rows].flatten(0, 1), self.right[:, :, columns].flatten(0, 1)
        return left.mT @ right, left.abs().mT @ right.abs()


_MEMORY = 16.0
_OF_A_GRAM = 0.75
"""The share of a Gram matrix that is multiplied out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LookUps:
    """Row ``index_t`` of G_i is the sum of the ``gradients_t`` that share it: an embedding.

    ``index`` (B, T) int64, ``gradients`` (B, T, columns), ``rows`` in all.
    """

    index: Tensor
    gradients: Tensor
    rows: int

    @property
    def n_units(self) -> int:
        """B."""
        return self.index.shape[0]

    @property
    def columns(self) -> int:
        """The width of the embedding."""
        return self.gradients.shape[2]

    def squared_norms(self, grams: Grams) -> Tensor:
        """||G_i||^2, (B,) float64."""
        key = torch.arange(self.n_units, device=self.index.device).unsqueeze(1) * self.rows + self.index
        different, place = torch.unique(key, return_inverse=True)
        sums = self.gradients.new_zeros((len(different), self.columns))
        sums.index_add_(0, place.flatten(), self.gradients.flatten(0, 1))
        norms = torch.zeros(self.n_units, dtype=torch.float64, device=sums.device)
        return norms.index_add_(0, different // self.rows, row_squares(sums))

    def block(self, start: int, stop: int) -> Tensor:
        """Some rows of every G_i."""
        inside = (self.index >= start) & (self.index < stop)
        unit, place = inside.nonzero(as_tuple=True)
        block = self.gradients.new_zeros((self.n_units, stop - start, self.columns))
        block.index_put_((unit, self.index[unit, place] - start), self.gradients[unit, place], accumulate=True)
        return block

    def of_units(self, units: Tensor) -> LookUps:
        """The same for some of the units."""
        return LookUps(index=self.index[units], gradients=self.gradients[units], rows=self.rows)

    def entries(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Some entries of their sum."""
        there = self.index.flatten() == rows.to(self.index.device).unsqueeze(1)  # (rows, B T)
        gradients = self.gradients[:, :, columns].flatten(0, 1)
        looked_up = there.to(gradients.dtype)
        return looked_up @ gradients, looked_up @ gradients.abs()


def total(forms: Sequence[Form]) -> Sequence[Form]:
    """The same sum in fewer forms: outer products of one shape are one with more rows."""
    products = [form for form in forms if isinstance(form, OuterProducts)]
    if len(products) < 2:
        return forms
    merged = OuterProducts(
        left=torch.cat([form.left for form in products], 1), right=torch.cat([form.right for form in products], 1)
    )
    return [merged, *(form for form in forms if not isinstance(form, OuterProducts))]


def squared_norms(forms: Sequence[Form], grams: Grams) -> Tensor:
    """||sum of the forms||^2 by unit, (B,) float64: for a parameter that is used in several places."""
    forms = total(forms)
    return forms[0].squared_norms(grams) if len(forms) == 1 else sum_of_blocks(forms)


def sum_of_blocks(forms: Sequence[Form]) -> Tensor:
    """``squared_norms`` from the gradients themselves, in blocks."""
    return torch.stack([row_squares(block.flatten(1)) for block in blocks(forms)]).sum(0)


def blocks(forms: Sequence[Form]) -> Iterator[Tensor]:
    """The sum of the forms in blocks of rows, (B, some rows, columns)."""
    first = forms[0]
    size = max(1, BLOCK_BYTES // (first.n_units * first.columns * 4))
    for start in range(0, first.rows, size):
        stop = min(start + size, first.rows)
        block = first.block(start, stop)
        for other in forms[1:]:
            block = block + other.block(start, stop)
        yield block


def row_squares(rows: Tensor) -> Tensor:
    """Squared norm of each row of a matrix, float64.

    Short stretches are added up in their own precision and those in float64, several times faster than in float64
    throughout and as exact as the products before it; all in float64 where squares may have under- or overflowed.
    """
    if rows.dtype != torch.float64 and rows.numel() > 16 * _STRETCH:
        n, whole = rows.shape[0], rows.shape[1] // _STRETCH * _STRETCH
        parts = [rows[:, :whole].reshape(n, -1, _STRETCH), rows[:, whole:].unsqueeze(1)]
        # Stretches of one size would be rounded all the same way in half precision.
        exact = torch.promote_types(rows.dtype, torch.float32)
        norms = torch.cat([torch.linalg.vector_norm(part, dim=2, dtype=exact) for part in parts if part.shape[2]], 1)
        squares = norms.to(torch.float64).square().sum(1)
        if bool(((squares > _SMALLEST) & squares.isfinite()).all()):
            return squares
    in_float64: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return in_float64.square()


def norm(tensor: Tensor) -> float:
    """Of all entries."""
    return math.sqrt(float(row_squares(tensor.reshape(1, -1))))


_STRETCH = 1024
_SMALLEST = 1e-20


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half-precision gradients are multiplied and added in float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
