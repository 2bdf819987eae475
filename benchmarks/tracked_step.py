"""What a measurement adds to a training step whose forward and backward pass it shares: ``sr.Tracker`` as it is used.

Unlike one probe, this is a whole decomposition: products of the units' loss gradients, watched in the step's own
backward pass, the check of the layer rules, and the row that is recorded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from timing import Times, median_ratio
from torch import nn
from ways import few_units
from workload import TRAINING_STEP, Batch, resting_optimiser

import spectral_reach as sr

PREFIX = "tracked_step"


def works(model: nn.Module, batch: Batch) -> dict[str, Callable[[int], object]]:
    """Training steps to time, with measurements in them: as they are by default, of the whole table, of a few units."""
    return {name: work(copy.deepcopy(model), batch, name) for name in names(batch)}


def names(batch: Batch) -> list[str]:
    """With ``units`` and ``noise_units`` in them."""
    every, few = len(batch[0]), few_units(batch)
    return [f"{PREFIX}_{units}_{noise}" for units, noise in ((every, None), (every, every), (every, few), (few, few))]


def _counts(name: str) -> tuple[int, int | None]:
    units, noise_units = name.split("_")[-2:]
    return int(units), None if noise_units == "None" else int(noise_units)


def work(model: nn.Module, batch: Batch, name: str) -> Callable[[int], object]:
    """One of them."""
    return _step(model, batch, *_counts(name))


def _step(model: nn.Module, batch: Batch, units: int, noise_units: int | None) -> Callable[[int], object]:
    inputs, targets = batch
    optimiser = resting_optimiser(model, batch)
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit", units=units, noise_units=noise_units)

    def step(_: int) -> float:
        number = len(tracker.history)
        outputs = model(inputs)
        loss = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), targets.flatten())
        tracker.measure(number, batch, outputs=outputs, step_loss=loss)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        assert len(tracker.history) == number + 1
        return float(tracker.history[-1]["chi_net"])

    return step


def added(times: Mapping[str, Times], peaks: Mapping[str, int]) -> list[dict[str, Any]]:
    """What each adds to a training step without a measurement, in such steps, from the times of each round."""
    return [
        {
            "units": _counts(name)[0],
            "noise_units": _counts(name)[1],
            "seconds_of_rounds": each.rounds,
            "added_training_steps": median_ratio(each, times[TRAINING_STEP]) - 1,
            "peak_of_training_step": peaks[name] / peaks[TRAINING_STEP],
        }
        for name, each in times.items()
        if name.startswith(PREFIX)
    ]
