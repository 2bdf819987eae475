"""What measures a run while it trains: on training data, and on held-out data if that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import nn

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.records.table import Table
from spectral_reach.studies.training.run_config import RunConfig
from spectral_reach.tracking.tracker import Tracker


@contextmanager
def trackers(model: nn.Module, folder: RunFolder, config: RunConfig) -> Iterator[tuple[Tracker, Tracker | None]]:
    """The tracker of the training data and, if the run has any, that of the held-out data; closed at the end."""
    measurement = config.measurement
    steps = config.measured_steps
    with ExitStack() as held:
        train = held.enter_context(
            _tracker(model, folder.measurements, config, steps, measurement.units_of_trace, None)
        )
        if not measurement.heldout_units:
            yield train, None
            return
        units = min(measurement.probed_units, measurement.heldout_units)
        yield (
            train,
            held.enter_context(
                _tracker(model, folder.heldout_measurements, config, steps, units, measurement.heldout_units)
            ),
        )


def _tracker(
    model: nn.Module, table: Table, config: RunConfig, steps: Sequence[int], units: int, most: int | None
) -> Tracker:
    """``most``: units of every measurement where these are fewer than the run's own."""
    measurement, training = config.measurement, config.training

    def noise_units(step: int) -> int | None:
        wanted = measurement.units_of_noise(step, training.steps)
        return wanted if wanted is None or most is None else min(wanted, most)

    return Tracker(
        model,
        schedule=steps,
        out=table,
        estimator=measurement.estimator,
        probes=measurement.probes,
        units=units,
        noise_units=noise_units,
        seed=training.seed,
    )
