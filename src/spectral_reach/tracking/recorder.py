"""The rows of one kind: in memory, in their table, and in whatever else takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spectral_reach.records.table import Table
from spectral_reach.tracking.sink import Sink

BATCH = "batch"
"""The column of rows of a named batch or pair that holds its name."""


class Recorder:
    """Rows by step, each once.

    Args:
        kind: ``"measurement"`` or ``"update"``.
        name: of the named batch or pair that the rows are of; None for those of the training's own batches.
        table: where they are kept; None for memory only.
        sinks: who gets them too.
    """

    def __init__(self, kind: str, table: Table | None, sinks: Iterable[Sink], name: str | None = None) -> None:
        self._kind = kind
        self._name = name
        self._table = table
        self._sinks = tuple(sinks)
        self._rows: list[dict[str, Any]] = [] if table is None else table.rows()
        self._steps = {row["step"] for row in self._rows}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every row on record: those of the table when it was opened, then in the order taken."""
        return list(self._rows)

    def has(self, step: int) -> bool:
        """Whether there is a row of this step."""
        return step in self._steps

    def add(self, row: Mapping[str, Any]) -> None:
        """Record a row. When this returns, it is on disk for good.

        Raises:
            RecordError: the table cannot be written.
        """
        if self._name is not None:
            row = {"step": row["step"], BATCH: self._name, **row}
        # The table last: what it lacks is taken again by the run that goes on, so that no sink misses a row.
        for sink in self._sinks:
            sink.write(self._kind, row)
        if self._table is not None:
            self._table.append(row)
        self._rows.append(dict(row))
        self._steps.add(row["step"])
