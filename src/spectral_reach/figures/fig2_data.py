"""The numbers behind Figure 2, by run: what the optimiser's updates did to the loss, summed up along training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_reach.figures.errors import NothingToDrawError
from spectral_reach.records.run_folder import RunFolder

COLUMNS = ("run", "step", "loss_before", "change", "linear", "correction", "next_change", "updates")
SUMS = ("change", "linear", "correction", "next_change")
PER_DECADE = 12
"""Points of the smoothed loss while the number of updates grows tenfold."""

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdatesOfRun:
    """A run's updates that are on record and defined.

    Attributes:
        name: of its folder.
        rows: as they are in ``updates.parquet``.
        undefined: how many rows are left out, for their values are not finite.
    """

    name: str
    rows: Sequence[dict[str, Any]]
    undefined: int

    @property
    def steps(self) -> Values:
        """Updates made before each, (n,)."""
        return self._column("step")

    @property
    def losses(self) -> Values:
        """Of each batch, before its update, (n,)."""
        return self._column("loss_before")

    def summed(self, name: str) -> Values:
        """The sum of a column of ``SUMS`` up to and with each update, (n,); a next batch that is not there adds 0."""
        return np.cumsum(np.nan_to_num(self._column(name)))

    @property
    def every_update(self) -> bool:
        """Whether none between the first and the last is missing: sums over a part of them tell of these alone."""
        return len(self.rows) == int(self.rows[-1]["step"]) - int(self.rows[0]["step"]) + 1

    def smoothed(self) -> tuple[Values, Values]:
        """Mean steps and losses of ``PER_DECADE`` windows while ``step + 1`` grows tenfold."""
        windows = np.floor(PER_DECADE * np.log10(self.steps + 1)).astype(int)
        starts = np.flatnonzero(np.diff(windows, prepend=windows[0] - 1))
        counts = np.diff(starts, append=len(windows))
        return np.add.reduceat(self.steps, starts) / counts, np.add.reduceat(self.losses, starts) / counts

    def _column(self, name: str) -> Values:
        return np.array([row[name] for row in self.rows], dtype=np.float64)


def read_updates(runs: Iterable[Path]) -> tuple[UpdatesOfRun, ...]:
    """The updates of these run folders.

    Raises:
        ForeignFolderError: a folder is no run folder.
        NothingToDrawError: one has no update on record.
        RecordError: a table is damaged.
    """
    return tuple(map(_updates_of, runs))


def _updates_of(run: Path) -> UpdatesOfRun:
    rows = RunFolder.open(run).updates.rows()
    defined = [row for row in rows if math.isfinite(row["change"])]
    if not defined:
        raise NothingToDrawError(
            f"{run} has no update on record: got nothing to draw; expected the folder of a tracker or callback with "
            "updates=, for example updates=1 for all of them."
        )
    return UpdatesOfRun(name=run.resolve().name, rows=defined, undefined=len(rows) - len(defined))


def table_of(runs: Iterable[UpdatesOfRun]) -> list[dict[str, Any]]:
    """A row an update, with ``COLUMNS``."""
    return [{"run": run.name, **{name: row[name] for name in COLUMNS[1:]}} for run in runs for row in run.rows]
