"""On which units a run is measured: a function of its configuration and the step alone."""

from __future__ import annotations

from spectral_reach.studies.data import Dataset
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.data.dataset import Batch
from spectral_reach.studies.training.run_config import RunConfig


def batch_to_measure(config: RunConfig, data: Dataset, step: int, batch: Batch) -> Batch:
    """The training ``batch`` of ``step`` where it has as many units as asked for, else fresh ones.

    A batch that goes through the model in parts is too large for one pass: then the units are always fresh. Those of a
    training batch are all different, fresh ones are not (``measurement_batch``): noise-corrected norms of the former
    are lower by noise scale / training units of them.
    """
    units = config.measurement.units_at(step, config.training.steps)
    if units == config.training.batch_size and config.training.accumulation == 1:
        return batch
    return measurement_batch(data, step, seed=config.training.seed, units=units)


def heldout_batch(config: RunConfig, data: Dataset, step: int) -> Batch | None:
    """The held-out units to measure at ``step``, if any are asked for."""
    units = config.measurement.heldout_units
    if not units:
        return None
    return measurement_batch(data, step, seed=config.training.seed, units=units, part="heldout")
