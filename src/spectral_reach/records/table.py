"""A table on disk that is complete and readable at every instant: rows by step in one Parquet file.

Every append writes the whole table to a temporary file and renames it over the old one (see ``atomic``).
A Parquet file has its index at its end: one that grows in place is unreadable until it is closed, and a journal
beside it would make every reader know two formats. The rows stay in memory, so an append costs one write and two
flushes of the disk: 5 to 20 ms on a machine of two busy cores, mostly the flushes, for up to 5,000 rows of 26 columns,
where a run has hundreds to a few thousand. Rows that can be computed again (losses since the last checkpoint) are
cheaper appended together, by ``append_many``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spectral_reach.records import columns
from spectral_reach.records.atomic import write_atomically
from spectral_reach.records.errors import RecordError

_EMPTY = pa.table({})
_Signature = tuple[int, int, int] | None


class Table:
    """Rows sorted by a unique integer key, in a Parquet file that a kill cannot damage.

    A row maps column names to bool, int, float (NaN stays NaN), str, None (null) or a mapping (stored as JSON
    text). Later rows may bring new columns; rows that lack a column hold null there. Any number of processes may
    read at any time and see the newest rows; only one may write, which the lock of the run folder sees to.

    Args:
        path: the Parquet file; it and the rows come into being with the first append.
        key: the column that tells rows apart.
    """

    def __init__(self, path: Path | str, key: str = "step") -> None:
        self.path = Path(path)
        self.key = key
        self._rows: pa.Table = _EMPTY
        self._keys: set[int] = set()
        self._read_from: _Signature = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row. When this returns, the row is on disk for good.

        Raises:
            ValueError: the row has no key, or a row with this key is there already.
            TypeError: the key is not an integer, a value is not storable, or not of the type of its column.
            RecordError: the file cannot be read or written; no row that was there is lost.
        """
        self.append_many([row])

    def append_many(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, all or none of them, in one write. Raises as ``append`` does."""
        rows = list(rows)
        if not rows:
            return
        self._refresh()
        keys = set(self._keys)
        for row in rows:
            key = self._key_of(row)
            if key in keys:
                raise ValueError(
                    f"{self.path} got a second row with {self.key} {key}; expected each {self.key} once: "
                    f"truncate_from({key}) drops the rows from there on"
                )
            keys.add(key)
        self._write(columns.stacked(self._rows, columns.encode(rows)))

    def truncate_from(self, key: int) -> None:
        """Drop every row whose key is ``key`` or greater, durably.

        Raises:
            RecordError: the file cannot be read or written.
        """
        self._refresh()
        if any(each >= key for each in self._keys):
            self._write(self._rows.filter(pc.less(self._rows.column(self.key), key)))

    def rows(self) -> list[dict[str, Any]]:
        """Every row, sorted by key, with all columns; mappings come back as mappings.

        Raises:
            RecordError: the file is not a table of this kind, or damaged.
        """
        return columns.decode(self.arrow())

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table, sorted by key. Raises as ``rows`` does."""
        self._refresh()
        return self._rows

    def has(self, key: int) -> bool:
        """Whether there is a row with this key. Raises as ``rows`` does."""
        self._refresh()
        return key in self._keys

    def __len__(self) -> int:
        self._refresh()
        return len(self._keys)

    def _key_of(self, row: Mapping[str, Any]) -> int:
        if self.key not in row:
            raise ValueError(f"a row for {self.path} has the columns {list(row)}; expected {self.key!r} among them")
        key = row[self.key]
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
            raise TypeError(f"a row for {self.path} has {self.key} {key!r}; expected an integer")
        return int(key)

    def _write(self, table: pa.Table) -> None:
        table = _sorted(table, self.key)
        # A dictionary per column triples the time of writing and saves nothing on numbers that are all different.
        write_atomically(self.path, lambda temporary: pq.write_table(table, temporary, use_dictionary=False))
        self._hold(table, _signature_of(self.path.stat()))

    def _refresh(self) -> None:
        """Read the file again if it is not the one that the rows in memory came from."""
        try:
            if _signature_of(self.path.stat()) == self._read_from:
                return
            with self.path.open("rb") as file:
                # Of the open file: the path may stand for a newer one by now.
                signature = _signature_of(os.fstat(file.fileno()))
                table = pq.read_table(file)
        except FileNotFoundError:
            self._hold(_EMPTY, None)
            return
        except (OSError, pa.ArrowException) as error:
            raise RecordError(
                f"{self.path} cannot be read: {error}. It is damaged or no Parquet file, though writers here never "
                "leave it so: restore it from a copy, or start the run anew in another folder."
            ) from error
        self._check(table)
        self._hold(table, signature)

    def _check(self, table: pa.Table) -> None:
        if self.key not in table.column_names:
            raise RecordError(
                f"{self.path} has the columns {table.column_names}; expected {self.key!r} among them. It was not "
                "written by spectral-reach: choose another output folder."
            )
        keys = table.column(self.key)
        if keys.type != pa.int64() or keys.null_count or not _increases(keys):
            raise RecordError(
                f"{self.path} has a column {self.key!r} of type {keys.type}; expected strictly increasing int64. It "
                "was not written by spectral-reach: choose another output folder."
            )

    def _hold(self, table: pa.Table, signature: _Signature) -> None:
        self._rows = table
        self._keys = set(table.column(self.key).to_pylist()) if table.num_rows else set()
        self._read_from = signature


def _sorted(table: pa.Table, key: str) -> pa.Table:
    return table if _increases(table.column(key)) else table.sort_by(key)


def _increases(keys: pa.ChunkedArray) -> bool:
    values = keys.to_numpy()
    return bool((values[1:] > values[:-1]).all())


def _signature_of(status: os.stat_result) -> tuple[int, int, int]:
    """Tells one version of a file from the next: each is a new file, written at another time."""
    return status.st_ino, status.st_mtime_ns, status.st_size
