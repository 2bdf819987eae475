"""Unit vectors of an output space, as many at a time as fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spectral_reach.jacobian.vjp import directions_per_chunk
from spectral_reach.measured.linearisation import Linearisation

_MOST = 2**29
"""Bytes of a chunk: larger ones are no faster."""


def directions(outputs: Tensor, linearisation: Linearisation, budget: int) -> Iterator[Tensor]:
    """e_1, e_2, ... in the order of the outputs (n, k), in chunks (V, n, k), for products with their Jacobian."""
    n, k = outputs.shape
    chunk = directions_per_chunk(linearisation, min(budget, _MOST))
    for start in range(0, n * k, chunk):
        place = torch.arange(start, min(start + chunk, n * k), device=outputs.device)
        cotangents = outputs.new_zeros((len(place), n, k))
        cotangents[torch.arange(len(place), device=outputs.device), place // k, place % k] = 1
        yield cotangents
