"""On which sequences a run is measured: a function of its configuration and the step alone."""

from __future__ import annotations

from spectral_reach.studies.data import TokenData
from spectral_reach.studies.data.batches import Batch, measurement_batch
from spectral_reach.studies.training.run_config import RunConfig


def batch_to_measure(config: RunConfig, data: TokenData, step: int, batch: Batch) -> Batch:
    """The training ``batch`` of ``step`` where it has as many sequences as asked for, else fresh ones."""
    units = config.measurement.units_at(step, config.training.steps)
    if units == config.training.batch_size:
        return batch
    return measurement_batch(data, step, seed=config.training.seed, units=units)
