"""Which units a training step sees: a function of (seed, step) alone, so that resuming needs no state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from spectral_reach.studies.data.dataset import Batch, Dataset, Part

SAMPLING = 2
"""Raised when other units are drawn for the same purpose, seed and step: no run goes on with others."""

# The first word of a SeedSequence says what the numbers are for: no stream is ever shared by two purposes.
_TRAINING = 1
_MEASUREMENT = {"train": 2, "heldout": 3}
_EVALUATION = 4
_PROBING = 5


def training_batch(data: Dataset, step: int, *, seed: int, batch_size: int, probing: bool = False) -> Batch:
    """The batch of training step ``step`` (from 0): epochs are random permutations, whole batches only.

    ``probing``: of the training of a readout alone, which has an order of its own: the pre-trained backbone of the same
    seed has learnt from the batches of the other.
    """
    units = data.units("train")
    return data.batch("train", training_indices(units, step, seed=seed, batch_size=batch_size, probing=probing))


def training_indices(
    units: int, step: int, *, seed: int, batch_size: int, probing: bool = False
) -> npt.NDArray[np.int64]:
    """Rows of the training data that step ``step`` uses; within an epoch no row comes twice."""
    if not 1 <= batch_size <= units:
        raise ValueError(f"batch_size is {batch_size}; expected 1 to {units}, the training units that there are.")
    epoch, position = divmod(step, units // batch_size)
    order = _permutation(_PROBING if probing else _TRAINING, units, seed, epoch)
    return order[position * batch_size : (position + 1) * batch_size]


@lru_cache(maxsize=2)
def _permutation(purpose: int, units: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    order = np.random.default_rng(np.random.SeedSequence([purpose, seed, epoch])).permutation(units)
    order.setflags(write=False)
    return order


def measurement_batch(data: Dataset, step: int, *, seed: int, units: int, part: Part = "train") -> Batch:
    """``units`` units of a part to measure at ``step``; no training step depends on them.

    The noise-corrected gradient norm comes from pairs of units, and how they are drawn says of what:

    - Training units with replacement, independent draws: of the training data, on which the loss is reduced, also
      where the batch is a good share of them. Different units would underestimate it by noise scale / units of it.
    - Held-out units without: of the population that they stand for. Pairs of a unit with itself would overestimate it
      by as much, and held-out units are few.

    Raises:
        ValueError: fewer than 1 unit, or more than are held out.
    """
    there = data.units(part)
    if units < 1 or (part == "heldout" and units > there):
        most = f" and at most {there}, the units held out" if part == "heldout" else ""
        raise ValueError(f"A measurement of {units} units was asked for; expected at least 1{most}.")
    rng = np.random.default_rng(np.random.SeedSequence([_MEASUREMENT[part], seed, step]))
    return data.batch(part, rng.choice(there, size=units, replace=part == "train"))


def heldout_batches(data: Dataset, *, units: int, batch_size: int) -> list[Batch]:
    """The same held-out units every time, in batches: all, or so many of them.

    Chosen at random, once for all: data may repeat themselves at even distances, as images do in all their shifts.
    """
    there = data.units("heldout")
    count = min(units, there)
    chosen = np.sort(np.random.default_rng(np.random.SeedSequence([_EVALUATION])).choice(there, count, replace=False))
    return [data.batch("heldout", chosen[i : i + batch_size]) for i in range(0, count, batch_size)]
