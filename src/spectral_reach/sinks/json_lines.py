"""Rows as JSON lines: one object a line, for tools that read a log as it grows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectral_reach.records.errors import write_errors_told
from spectral_reach.records.finite import finite


class JsonLines:
    """Appends each row as a line ``{"kind": "measurement", "step": 10, ...}``; not-a-number becomes null.

    A line is on disk when ``write`` returns. One that a kill has cut off is dropped when the file is opened again, and
    a row that was taken again with the same values is not written twice. Where a step was measured anew with other
    values, as in another training, both lines are there.

    Args:
        path: the file; it and its folder come into being with the first row.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lines = self._recover()

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises:
            RecordError: the file cannot be written.
        """
        line = json.dumps({"kind": kind, **finite(row)}, allow_nan=False).encode()
        if line in self._lines:
            return
        with write_errors_told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self._lines.add(line)

    def close(self) -> None:
        """Nothing is left to do: every line is on disk."""

    def _recover(self) -> set[bytes]:
        """Cut off a line that was not finished, and find out which there are."""
        if not self.path.is_file():
            return set()
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        for number, line in enumerate(lines, 1):
            if not _is_row(line):
                raise ValueError(
                    f"line {number} of {self.path} is no row of spectral-reach; expected JSON objects with 'kind' and "
                    "'step', or a file that is not there yet: choose another path"
                )
        if whole < len(content):
            with write_errors_told(self.path):
                os.truncate(self.path, whole)
        return set(lines)


def _is_row(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and {"kind", "step"} <= row.keys()
