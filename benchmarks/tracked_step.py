"""What a measurement adds to a training step whose forward and backward pass it shares: ``sr.Tracker`` as it is used.

Unlike one probe, this is a whole decomposition: products of the units' loss gradients, watched in the step's own
backward pass, the check of the layer rules, and the row that is recorded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from peak_memory import TRAINING_STEP
from timing import Times, median_ratio
from torch import nn
from ways import few_units
from workload import Batch, resting_optimiser

import spectral_reach as sr

PREFIX = "tracked_step"


def works(model: nn.Module, batch: Batch) -> dict[str, Callable[[int], object]]:
    """Training steps to time, with measurements in them: as they are by default, of the whole table, of a few units."""
    every, few = len(batch[0]), few_units(batch)
    return {
        f"{PREFIX}_{units}_{noise_units}": _step(copy.deepcopy(model), batch, units, noise_units)
        for units, noise_units in ((every, None), (every, every), (every, few), (few, few))
    }


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


def added(times: Mapping[str, Times]) -> list[dict[str, Any]]:
    """What each adds to a training step without a measurement, in such steps, from the times of each round."""
    return [
        {
            "units": int(name.split("_")[-2]),
            "noise_units": None if name.endswith("None") else int(name.split("_")[-1]),
            "seconds_of_rounds": each.rounds,
            "added_training_steps": median_ratio(each, times[TRAINING_STEP]) - 1,
        }
        for name, each in times.items()
        if name.startswith(PREFIX)
    ]
