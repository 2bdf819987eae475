"""A random subset of units, and the generators of the estimators."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spectral_reach.measured.extent import Extent


class _Options(Protocol):
    @property
    def units(self) -> int | None: ...

    @property
    def seed(self) -> int: ...


def generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    """A generator of its own for one purpose, independent of every other purpose under the same seed."""
    entropy = [seed % 2**64, *purpose.encode()]
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state) & (2**63 - 1))


def draw_units(n_units: int, units: int | None, random: torch.Generator) -> Tensor:
    """``units`` of ``n_units`` without replacement, ascending; all of them for None. On the generator's device."""
    if units is None or units == n_units:
        return torch.arange(n_units, device=random.device)
    return torch.randperm(n_units, generator=random, device=random.device)[:units].sort().values


class ChosenUnits:
    """The units behind an estimate of chi_net, as the parts of a batch come."""

    def __init__(self, extent: Extent, options: _Options) -> None:
        random = generator(options.seed, "units", torch.device("cpu"))
        self.all = draw_units(extent.n_units, options.units, random)
        """(m,) int64 on the CPU, ascending."""
        self._units = 0

    def in_next(self, n_units: int) -> Tensor:
        """Which of the next ``n_units`` are among them, counted from the first of these."""
        first, self._units = self._units, self._units + n_units
        return self.all[(self.all >= first) & (self.all < self._units)] - first
