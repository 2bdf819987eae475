"""How large a batch is, in units, samples and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Extent:
    """What normalises and weighs everything that is measured on a batch.

    Attributes:
        samples_of_unit: N_i of each unit that holds a sample, (n_units,) int64 on the CPU.
        n_outputs: K.
    """

    samples_of_unit: Tensor
    n_outputs: int

    @property
    def n_units(self) -> int:
        """Units that hold a sample."""
        return self.samples_of_unit.numel()

    @property
    def n_samples(self) -> int:
        """N."""
        return int(self.samples_of_unit.sum())

    @property
    def unit_weights(self) -> Tensor:
        """w_i = N_i / N, (n_units,) float64."""
        return self.samples_of_unit.to(torch.float64) / self.n_samples
