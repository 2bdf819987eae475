"""A random subset of units, and the generators of the estimators."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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
