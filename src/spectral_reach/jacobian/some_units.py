"""Inner products of the gradients of some units with each other and with the gradient of the whole batch.

They cost as much less than those of all pairs as there are fewer units, and need the gradient g of the batch, which a
training step makes anyway. The squared norms of all units' gradients, which need no gradient by unit, are had beside
them where they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.agreement import tolerance_of
from spectral_reach.jacobian.forms import Form, row_squares
from spectral_reach.jacobian.grams import Grams
from spectral_reach.measured.linearisation import Linearisation


@dataclass(frozen=True, kw_only=True, slots=True)
class SomeUnitProducts:
    """Products of the gradients of m of n units, float64 on the CPU.

    Attributes:
        units: which, (m,) int64.
        squared_norms: ||g_i||^2, (m,).
        with_batch: <g_i, g> with the gradient g of all units, (m,).
        pair_squares: sum_{j<i} <g_i, g_j>^2 over pairs of the m, or an unbiased estimate of it from random signs.
        squared_norm: ||g||^2.
        squared_norms_of_all: ||g_i||^2 of all n units, (n,); None where they were not asked for.
    """

    units: Tensor
    squared_norms: Tensor
    with_batch: Tensor
    pair_squares: float
    squared_norm: float
    squared_norms_of_all: Tensor | None = None

    @classmethod
    def of_pairs(
        cls, units: Tensor, pairs: Tensor, with_batch: Tensor, squared_norm: float, squared_norms_of_all: Tensor | None
    ) -> SomeUnitProducts:
        """From the table of <g_i, g_j> of the m, (m, m), and the others as they are."""
        own = pairs.diagonal()
        return cls(
            units=units,
            squared_norms=own,
            with_batch=with_batch,
            pair_squares=(float(pairs.square().sum()) - float(own.square().sum())) / 2,
            squared_norm=squared_norm,
            squared_norms_of_all=squared_norms_of_all,
        )


class SomeUnits:
    """Gathers the products parameter by parameter: first the forms by unit, then the gradient of the batch.

    Products are taken within blocks of gradients in their own precision and added in float64.

    Args:
        linearisation: of the whole batch.
        units: which, (m,) int64.
        grams: of its graph, where the squared norms of all units are wanted.
    """

    def __init__(self, linearisation: Linearisation, units: Tensor, grams: Grams | None = None) -> None:
        self._units = units.cpu()
        self._labelled = linearisation.unit_in_batch.cpu()
        self._in_batch = linearisation.unit_in_batch[units.to(linearisation.unit_in_batch.device)]
        self._waiting: dict[str, list[Form]] = {}
        m = len(units)
        self._pairs = torch.zeros(m, m, dtype=torch.float64)
        self._with_batch = torch.zeros(m, dtype=torch.float64)
        self._squared_norm = 0.0
        self._grams = grams
        self._tolerance = tolerance_of(linearisation)
        self._expected: dict[str, _Entries] = {}
        self._of_all = torch.zeros(linearisation.n_units_in_batch, dtype=torch.float64)
        self.not_finite = ""
        """The first parameter whose gradients are not finite."""
        self._errors: dict[str, float] = {}
        self._entries = 0

    @property
    def not_the_sum(self) -> str:
        """The first parameter whose gradient is not the sum of those of the units, once all have come; else "".

        Some gradients are nothing but rounding, for example those of the bias of attention's keys, which changes no
        output: an error far below the gradients of the other parameters changes no number that is told.
        """
        typical = math.sqrt(self._squared_norm / max(1, self._entries))
        wrong = (name for name, error in self._errors.items() if not error <= _OF_OTHERS * self._tolerance * typical)
        return next(wrong, "")

    @property
    def waiting(self) -> list[str]:
        """Parameters whose forms came without a gradient."""
        return list(self._waiting)

    def take(self, name: str, found: Sequence[Form]) -> None:
        """The gradients of one parameter by unit, of which those of the chosen units are kept."""
        if self._grams is not None:
            self._of_all.add_(forms.squared_norms(found, self._grams).cpu())
        self._waiting[name] = [form.of_units(self._in_batch) for form in found]
        self._expected[name] = _Entries.of(found)

    def take_sum(self, name: str, gradient: Tensor | None) -> None:
        """The gradient of the whole batch for one parameter, whose forms came before; None if there is none."""
        found = self._waiting.pop(name, None)
        expected = self._expected.pop(name, None)
        if gradient is None:
            return
        gradient = forms.at_least_float32(gradient.to_dense() if gradient.is_sparse else gradient)
        self._squared_norm += float(row_squares(gradient.reshape(1, -1)))
        whole = gradient.reshape(-1)
        self._entries += gradient.numel()
        if expected is not None and (error := expected.error_in(gradient, self._tolerance)):
            self._errors[name] = error
        start = 0
        for block in forms.blocks(forms.total(found)) if found else ():
            of_units = block.flatten(1)
            stop = start + of_units.shape[1]
            self._pairs.add_((of_units @ of_units.mT).to(torch.float64).cpu())
            self._with_batch.add_((of_units @ whole[start:stop].to(of_units.dtype)).to(torch.float64).cpu())
            start = stop
        if not self.not_finite and not bool(torch.isfinite(self._with_batch.sum() + self._squared_norm)):
            self.not_finite = name

    def products(self, factor: float) -> SomeUnitProducts:
        """With all gradients divided by ``factor``."""
        of_all = None if self._grams is None else self._of_all[self._labelled] / factor**2
        return SomeUnitProducts.of_pairs(
            self._units,
            self._pairs / factor**2,
            self._with_batch / factor**2,
            self._squared_norm / factor**2,
            of_all,
        )

    def seen(self, factor: float) -> tuple[SomeUnitProducts, float]:
        """The same, and ||g||^2."""
        products = self.products(factor)
        return products, products.squared_norm


_OF_OTHERS = 0.1
"""Of the tolerance: an error this far below a typical entry of all gradients is none."""
_COMPARED = 4
"""Rows and columns of a gradient that are compared with the sum over units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entries:
    """Some entries of a gradient as the sum over units has them.

    A few are enough: what else has a gradient (a penalty, another loss) has one nearly everywhere.

    Attributes:
        rows, columns: which.
        sums: the entries.
        sizes: how large they could be, which is what rounding is in proportion to.
    """

    rows: Tensor
    columns: Tensor
    sums: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, found: Sequence[Form]) -> _Entries:
        # Spread over the parameter by a prime, for its parts may be alike.
        places = torch.arange(_COMPARED) * 104729 + 7
        rows, columns = (torch.unique(places % size) for size in (found[0].rows, found[0].columns))
        sums, sizes = zip(*(form.entries(rows, columns) for form in found), strict=True)
        return cls(rows=rows, columns=columns, sums=torch.stack(sums).sum(0), sizes=torch.stack(sizes).sum(0))

    def error_in(self, gradient: Tensor, tolerance: float) -> float:
        """The largest error of these entries in a gradient of the parameter's shape; 0 if all are within rounding."""
        by_row = gradient.flatten(1) if gradient.ndim > 1 else gradient.reshape(-1, 1)
        error = (by_row[self.rows][:, self.columns] - self.sums).abs()
        return 0.0 if bool((error <= tolerance * self.sizes).all()) else float(error.max())
