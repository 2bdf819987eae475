"""Which units a training step sees: a function of (seed, step) alone, so that resuming needs no state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.data.dataset import Batch, Dataset, Part

# The first word of a SeedSequence says what the numbers are for: no stream is ever shared by two purposes.
_TRAINING = 1
_MEASUREMENT = {"train": 2, "heldout": 3}


def training_batch(data: Dataset, step: int, *, seed: int, batch_size: int) -> Batch:
    """The batch of training step ``step`` (from 0): epochs are random permutations, whole batches only."""
    return data.batch("train", training_indices(data.units("train"), step, seed=seed, batch_size=batch_size))


def training_indices(units: int, step: int, *, seed: int, batch_size: int) -> npt.NDArray[np.int64]:
    """Rows of the training data that step ``step`` uses; within an epoch no row comes twice."""
    if not 1 <= batch_size <= units:
        raise ValueError(f"batch_size is {batch_size}; expected 1 to {units}, the training units that there are.")
    epoch, position = divmod(step, units // batch_size)
    return _permutation(units, seed, epoch)[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=2)
def _permutation(units: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order = np.random.default_rng(np.random.SeedSequence([_TRAINING, seed, epoch])).permutation(units)
    order.setflags(write=False)
    return order


def measurement_batch(data: Dataset, step: int, *, seed: int, units: int, part: Part = "train") -> Batch:
    """``units`` units of a part to measure at ``step``; no training step depends on them.

    Drawn with replacement: independent draws from the whole part, so that the noise-corrected gradient norm is
    unbiased for that of the whole part, also where the batch is a good share of it. Different units would
    underestimate it by a share of noise scale / units of the part.
    """
    if units < 1:
        raise ValueError(f"A measurement of {units} units was asked for; expected at least 1.")
    rng = np.random.default_rng(np.random.SeedSequence([_MEASUREMENT[part], seed, step]))
    return data.batch(part, rng.integers(data.units(part), size=units))


def heldout_batches(data: Dataset, *, units: int, batch_size: int) -> list[Batch]:
    """The same held-out units every time, spread evenly over all of them, in batches."""
    count = min(units, data.units("heldout"))
    chosen = np.arange(count) * data.units("heldout") // count
    return [data.batch("heldout", chosen[i : i + batch_size]) for i in range(0, count, batch_size)]
