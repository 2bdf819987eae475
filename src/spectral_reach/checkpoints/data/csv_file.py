"""A ``.csv`` file with the names of its columns in the first line; all values are text."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


class CsvFile:
    """Rows of a ``.csv`` file, which is read as a whole."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        # Documents are longer than the 131,072 characters that the module allows; the limit is of the whole process.
        limit = csv.field_size_limit(2**31 - 1)
        try:
            self._read(path)
        finally:
            csv.field_size_limit(limit)

    def _read(self, path: Path) -> None:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                header = next(reader, [])
                self._rows = [(reader.line_num, values) for values in reader if values]
            except csv.Error as error:
                raise ValueError(
                    f"{path}, line {reader.line_num} is no CSV ({error}); expected fields between commas, and quotes "
                    "that are closed: the file may be cut"
                ) from error
        self.columns = tuple(header)
        for line, values in self._rows:
            if len(values) != len(header):
                raise ValueError(
                    f"{path}, line {line} has {len(values)} fields; expected {len(header)}: {', '.join(header)}"
                )

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """All fields of the row, as text."""
        return dict(zip(self.columns, self._rows[index][1], strict=True))

    def where(self, index: int) -> str:
        """The line in which the row ends, from 1."""
        return f"line {self._rows[index][0]}"

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """None: CSV has no classes."""
        return None
