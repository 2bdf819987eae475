"""Which sequences a training step sees: a function of (seed, step) alone, so that resuming needs no state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from spectral_reach.studies.data.tokens import TokenData, Tokens

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs (B, T) and targets (B, T), int64: every one of the B T targets is predicted."""

# The first word of a SeedSequence says what the numbers are for: no stream is ever shared by two purposes.
_TRAINING = 1
_MEASUREMENT = 2


def training_batch(data: TokenData, step: int, *, seed: int, batch_size: int) -> Batch:
    """The batch of training step ``step`` (from 0): epochs are random permutations, whole batches only."""
    return as_batch(data.train[training_indices(len(data.train), step, seed=seed, batch_size=batch_size)])


def training_indices(sequences: int, step: int, *, seed: int, batch_size: int) -> npt.NDArray[np.int64]:
    """Rows of the training data that step ``step`` uses; within an epoch no row comes twice."""
    if not 1 <= batch_size <= sequences:
        raise ValueError(
            f"batch_size is {batch_size}; expected 1 to {sequences}, the training sequences that there are."
        )
    epoch, position = divmod(step, sequences // batch_size)
    return _permutation(sequences, seed, epoch)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=2)
def _permutation(sequences: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order = np.random.default_rng(np.random.SeedSequence([_TRAINING, seed, epoch])).permutation(sequences)
    order.setflags(write=False)
    return order


def measurement_batch(data: TokenData, step: int, *, seed: int, units: int) -> Batch:
    """``units`` training sequences to measure at ``step``; no training step depends on them.

    Drawn with replacement: independent draws from the training set, so that the noise-corrected gradient norm is
    unbiased for that of the whole training set, also where the batch is a good part of it. Different sequences would
    underestimate it by a share of noise scale / training sequences.
    """
    if units < 1:
        raise ValueError(f"A measurement of {units} units was asked for; expected at least 1.")
    rng = np.random.default_rng(np.random.SeedSequence([_MEASUREMENT, seed, step]))
    return as_batch(data.train[rng.integers(len(data.train), size=units)])


def heldout_batches(data: TokenData, *, sequences: int, batch_size: int) -> list[Batch]:
    """The same held-out sequences every time, spread evenly over all of them, in batches."""
    count = min(sequences, len(data.heldout))
    chosen = np.arange(count) * len(data.heldout) // count
    return [as_batch(data.heldout[chosen[i : i + batch_size]]) for i in range(0, count, batch_size)]


def as_batch(sequences: Tokens) -> Batch:
    """Sequences (B, T + 1) as inputs (B, T) and targets (B, T)."""
    tokens = torch.from_numpy(sequences.astype(np.int64))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
