"""Random signs for the outputs of a batch, each a function of the seed, its unit and its place in the unit alone.

So a unit meets the same probe whichever other units are in the pass, on every device: a batch may be measured in parts,
and no number depends on how it was parted. Signs are the bits of a counter that a 64-bit finaliser scrambles
(splitmix64: Steele, Lea and Flood 2014).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spectral_reach.measured.linearisation import Linearisation

_STEP = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
_WORD = 64


def unit_signs(linearisation: Linearisation, columns: int, dtype: torch.dtype, *, seed: int, probe: int) -> Tensor:
    """Signs for so many columns of every labelled row, (N, columns).

    Args:
        linearisation: whose rows.
        columns: the same row has the same first columns however many are asked for.
        dtype: of the result, on the device of f.
        seed: any int; of the measurement.
        probe: which of several independent draws.
    """
    key = np.random.SeedSequence([seed % 2**64, probe, *b"signs"]).generate_state(1, np.uint64)[0]
    counters = linearisation.unit_ids.to(linearisation.f.device)[linearisation.unit_of_row] * 2**32 + _row_in_unit(
        linearisation
    )
    of_row = _scrambled(counters * _STEP + int(key.astype(np.int64)))
    words = torch.arange(1, -(-columns // _WORD) + 1, device=of_row.device) * _STEP
    scrambled = _scrambled(of_row.unsqueeze(1) + words)  # (N, words)
    places = torch.arange(8, dtype=torch.uint8, device=of_row.device)
    bits = scrambled.view(torch.uint8).unsqueeze(2).bitwise_right_shift(places).bitwise_and_(1)
    return bits.flatten(1)[:, :columns].to(dtype).mul_(2).sub_(1)


def _row_in_unit(linearisation: Linearisation) -> Tensor:
    """How many rows of its unit come before each row, (N,) int64."""
    samples = linearisation.samples_of_unit
    first = samples.cumsum(0) - samples
    rows = torch.arange(linearisation.n_samples, device=first.device)
    return rows - first[linearisation.unit_of_row]


def _scrambled(z: Tensor) -> Tensor:
    """A one-to-one map of 64-bit numbers, in arithmetic modulo 2**64, after which neighbours have nothing in common."""
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, places: int) -> Tensor:
    """To the right, zeros from the left: torch has signed numbers only."""
    return z.bitwise_right_shift(places).bitwise_and(2 ** (_WORD - places) - 1)
