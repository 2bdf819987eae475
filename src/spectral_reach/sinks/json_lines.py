"""Rows as JSON lines: one object a line, for tools that read a log as it grows."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectral_reach.records.errors import write_errors_told


class JsonLines:
    """Appends each row as a line ``{"kind": "measurement", "step": 10, ...}``; not-a-number becomes null.

    A line is on disk when ``write`` returns. One that a kill has cut off is dropped when the file is opened again,
    and a row that is there already is not written twice.

    Args:
        path: the file; it and its folder come into being with the first row.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._written = self._recover()

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises:
            RecordError: the file cannot be written.
        """
        key = (kind, row["step"])
        if key in self._written:
            return
        values = {name: _json_value(value) for name, value in row.items()}
        line = json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"
        with write_errors_told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        self._written.add(key)

    def close(self) -> None:
        """Nothing is left to do: every line is on disk."""

    def _recover(self) -> set[tuple[str, int]]:
        """Cut off a line that was not finished, and find out which rows there are.

        Raises:
            ValueError: the file holds something else.
        """
        if not self.path.is_file():
            return set()
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        found = set()
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                row = json.loads(line)
                found.add((row["kind"], row["step"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"line {number} of {self.path} is no row of spectral-reach; expected JSON objects with 'kind' and "
                    "'step', or a file that is not there yet: choose another path"
                ) from error
        if whole < len(content):
            with write_errors_told(self.path):
                os.truncate(self.path, whole)
        return found


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return dict(value) if isinstance(value, Mapping) else value
