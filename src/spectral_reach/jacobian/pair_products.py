"""Inner products of the gradients of all pairs of units, added up parameter by parameter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spectral_reach.jacobian import forms
from spectral_reach.jacobian.forms import Form
from spectral_reach.jacobian.unit_gradients import UnitGradientProducts
from spectral_reach.measured.linearisation import Linearisation


class PairProducts:
    """<g_i, g_j> for all units of a batch; ``take`` is given each parameter once.

    Products are taken within blocks of gradients in their own precision and added in float64.
    """

    def __init__(self, linearisation: Linearisation) -> None:
        n_units = linearisation.n_units_in_batch
        self._labelled = linearisation.unit_in_batch.cpu()
        self._products = torch.zeros(n_units, n_units, dtype=torch.float64)
        self.not_finite = ""
        """The first parameter whose gradients are not finite."""

    def take(self, name: str, found: Sequence[Form]) -> None:
        """Add the products of one parameter's gradients."""
        for block in forms.blocks(forms.total(found)):
            gradients = block.flatten(1)
            product = (gradients @ gradients.mT).to(torch.float64).cpu()
            if not self.not_finite and not bool(product.isfinite().all()):
                self.not_finite = name
            self._products.add_(product)

    def of_labelled(self, factor: float = 1.0) -> Tensor:
        """With all gradients divided by ``factor``: (n_units, n_units) float64 on the CPU."""
        return self._products[self._labelled][:, self._labelled] / factor**2

    def seen(self, factor: float) -> tuple[UnitGradientProducts | None, float]:
        """Products of units, None for a single one, and ||g||^2, with all gradients divided by ``factor``."""
        pairs = self.of_labelled(factor)
        return UnitGradientProducts.of_pairs(pairs) if len(pairs) > 1 else None, float(pairs.sum())
