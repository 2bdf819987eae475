"""Rows as metrics of a trackio run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectral_reach.records.needed import needed
from spectral_reach.sinks.metrics import STEP, metrics_of


class Trackio:
    """``spectral_reach/...`` metrics at the step of their row, in the run that ``trackio.init`` has begun.

    Args:
        run: what ``trackio.init()`` returned; None for the one that is active.

    Raises:
        ImportError: trackio is not installed.
    """

    def __init__(self, run: Any = None) -> None:
        with needed("trackio"):
            import trackio
        self._log: Any = trackio.log if run is None else run.log

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Log the metrics of a row.

        Raises:
            RuntimeError: trackio has no active run.
        """
        if metrics := metrics_of(kind, row):
            self._log(metrics, step=row[STEP])

    def close(self) -> None:
        """The run stays open: it is the loop's."""
