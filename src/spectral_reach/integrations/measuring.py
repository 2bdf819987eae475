"""What the callbacks of all frameworks share: settings, a tracker for a training, and the batch of the next update."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from spectral_reach.integrations.earlier_rows import make_room
from spectral_reach.integrations.schedules import default_schedule
from spectral_reach.measured.losses import Loss
from spectral_reach.measured.parameters import Selection
from spectral_reach.tracking.named_batches import NamedBatch, NamedBatches
from spectral_reach.tracking.schedule import Schedule
from spectral_reach.tracking.sink import Sink
from spectral_reach.tracking.tracker import Tracker

NOTHING = object()
"""In place of a batch: the model has not seen one since the last update."""


class Measuring:
    """Mixed into a framework's callback.

    Args:
        schedule, updates, pairs, sinks, estimator, probes, units, noise_units, parameters, seed, memory_budget: as in
            ``sr.Tracker``.
        batches: as in ``sr.Tracker``, each of the form that the training's own batches have.
        loss: as in ``sr.Tracker``; None for the framework's own, cross entropy.
        out: the folder for the rows; None for ``spectral_reach`` in the framework's output folder.
    """

    def __init__(
        self,
        *,
        schedule: Schedule = default_schedule,
        updates: Schedule | None = None,
        batches: Mapping[str, NamedBatch] | None = None,
        pairs: Iterable[tuple[str, str]] = (),
        out: str | Path | None = None,
        sinks: Iterable[Sink] = (),
        loss: Loss | None = None,
        estimator: str = "auto",
        probes: int = 1,
        units: int | None = None,
        noise_units: int | Callable[[int], int | None] | None = None,
        parameters: Selection = None,
        seed: int = 0,
        memory_budget: int = 2**28,
    ) -> None:
        super().__init__()
        self._out = out
        self._sinks = tuple(sinks)
        self._loss = loss
        # What is wrong with them has to show now, not when the training begins.
        pairs = NamedBatches(batches, pairs).pairs
        self._options: dict[str, Any] = {
            "schedule": schedule,
            "updates": updates,
            "batches": batches,
            "pairs": pairs,
            "loss": "cross_entropy" if loss is None else loss,
            "estimator": estimator,
            "probes": probes,
            "units": units,
            "noise_units": noise_units,
            "parameters": parameters,
            "seed": seed,
            "memory_budget": memory_budget,
        }
        self._tracker: Tracker | None = None
        self._batch: Any = NOTHING

    @property
    def tracker(self) -> Tracker | None:
        """The tracker of the present training, or of the last one; ``tracker.history`` has the rows, and
        ``tracker.histories`` those of named batches and pairs. None in all processes but the first."""
        return self._tracker

    def _open(self, model: nn.Module, output_folder: str | Path, step: int, log: Sink) -> None:
        """The training begins, or goes on after ``step`` updates."""
        self._abandon()  # What a training that failed has left open.
        out = Path(output_folder) / "spectral_reach" if self._out is None else self._out
        make_room(out, step)
        self._tracker = Tracker(model, out=out, sinks=(log, *self._sinks), **self._options)

    def _abandon(self) -> None:
        """After an error of the training."""
        self._batch = NOTHING
        if self._tracker is not None:
            self._tracker.abandon()

    def _is_due(self, step: int) -> bool:
        return self._tracker is not None and self._tracker.due(step)

    def _measure(self, step: int, batch: Any, columns: Mapping[str, Any]) -> None:
        """The weights are still those that the batch has met."""
        assert self._tracker is not None
        self._tracker.measure(step, batch, **columns)

    def _end(self) -> None:
        self._batch = NOTHING
        if self._tracker is not None:
            self._tracker.close()
