"""Rows as metrics of a Weights & Biases run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from spectral_reach.records.needed import needed
from spectral_reach.sinks.metrics import STEP, metrics_of, prefix_of

if TYPE_CHECKING:
    from wandb import Run


class Wandb:
    """``spectral_reach/...`` metrics with ``spectral_reach/step`` as their axis, those of updates, of each named batch
    and of each pair with their own.

    A row joins what the loop logs at the same time instead of taking a step of the run's own counter, for a run drops
    what is logged at a step that it has left behind. Only where the loop has logged nothing since the last row of the
    same kind, the counter goes on by one: a loop that logs with ``step=`` has to log as often as it is measured, or
    to count updates.

    Args:
        run: the run of your loop (``wandb.init()``); None for the one that is active.

    Raises:
        ImportError: wandb is not installed.
        ValueError: there is no active run.
    """

    def __init__(self, run: Run | None = None) -> None:
        with needed("wandb"):
            import wandb
        run = wandb.run if run is None else run
        if run is None:
            raise ValueError("there is no active wandb run; expected one: call wandb.init() first, or give run=")
        self._run: Any = run
        self._waits_at: dict[str, int] = {}
        self._defined: set[str] = set()

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Hand a row over: it goes out with the loop's next log, at the latest with the next row or at the end."""
        axis = prefix_of(kind, row) + STEP
        metrics = metrics_of(kind, row)
        self._define(axis, metrics)
        if self._waits_at.get(axis) == self._run.step:
            self._run.log({}, commit=True)
        self._run.log({**metrics, axis: row[STEP]}, commit=False)
        self._waits_at[axis] = self._run.step

    def _define(self, axis: str, metrics: Mapping[str, float]) -> None:
        # One by one: a pattern for measurements would take in the names of updates too.
        for name in (axis, *metrics):
            if name not in self._defined:
                self._run.define_metric(name, step_metric=None if name == axis else axis)
                self._defined.add(name)

    def close(self) -> None:
        """Send what waits; the run stays open, it is the loop's."""
        if self._run.step in self._waits_at.values():
            self._run.log({}, commit=True)
        self._waits_at.clear()
