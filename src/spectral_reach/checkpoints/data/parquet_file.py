"""A ``.parquet`` file, of which only the row groups and columns are read that are needed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any


class ParquetRows:
    """Rows of a ``.parquet`` file."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.folder = path.parent
        self._path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except pa.ArrowException as error:
            raise ValueError(f"{path} is no Parquet file ({error}); expected a whole one: it may be cut") from error
        self.columns = tuple(self._file.schema_arrow.names)
        groups = range(self._file.metadata.num_row_groups)
        self._read: tuple[int, list[str], Any] | None = None
        self._starts = [0, *accumulate(self._file.metadata.row_group(group).num_rows for group in groups)]

    def __len__(self) -> int:
        rows: int = self._file.metadata.num_rows
        return rows

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The values of ``columns`` that the file has."""
        import pyarrow as pa

        group = bisect_right(self._starts, index) - 1
        wanted = [name for name in self.columns if name in columns]
        try:
            if self._read is None or self._read[:2] != (group, wanted):
                self._read = group, wanted, self._file.read_row_group(group, columns=wanted)
            table = self._read[2]
            values: list[dict[str, Any]] = table.slice(index - self._starts[group], 1).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self._path}, {self.where(index)} cannot be read ({error}); restore the file") from error
        return values[0]

    def where(self, index: int) -> str:
        """Rows are counted from 1."""
        return f"row {index + 1}"

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """None: numbers in a Parquet file are taken as they are."""
        return None
