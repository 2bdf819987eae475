"""``.jsonl``, an object a line, and ``.json``, a list of objects."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any


class JsonLines:
    """Rows of a ``.jsonl`` file. Only where the lines begin is kept, so that the file may be large.

    The first and the last line are looked at when it is opened, so that a file that was cut short is noticed.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._path = path
        self._places: list[tuple[int, int]] = []
        with path.open("rb") as file:
            begin = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    self._places.append((begin, number))
                begin += len(line)
        self.columns: tuple[str, ...] = ()
        if self._places:
            self.row(len(self) - 1, ())
            self.columns = tuple(self.row(0, ()))

    def __len__(self) -> int:
        return len(self._places)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The object of the line, whole."""
        begin, _ = self._places[index]
        with self._path.open("rb") as file:
            file.seek(begin)
            line = file.readline()
        try:
            found = json.loads(line.decode("utf-8-sig"))
        except ValueError as error:
            raise ValueError(
                f"{self._path}, {self.where(index)} is no JSON ({error}); expected an object a line: the file may "
                "be cut"
            ) from error
        return _checked(found, f"{self._path}, {self.where(index)}")

    def where(self, index: int) -> str:
        """Lines are counted from 1, empty ones among them."""
        return f"line {self._places[index][1]}"

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """None: JSON has no classes."""
        return None


class JsonFile:
    """Rows of a ``.json`` file, which is read as a whole."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._path = path
        try:
            found = json.loads(path.read_text(encoding="utf-8-sig"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON ({error}); expected a list of objects: the file may be cut") from error
        if not isinstance(found, list):
            raise ValueError(
                f"{path} holds a {type(found).__name__}; expected a list of objects (an object a line goes in .jsonl)"
            )
        self._objects = found
        self.columns = tuple(self.row(0, ())) if found else ()

    def __len__(self) -> int:
        return len(self._objects)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The object, whole."""
        return _checked(self._objects[index], f"{self._path}, {self.where(index)}")

    def where(self, index: int) -> str:
        """Objects are counted from 1."""
        return f"object {index + 1}"

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """None: JSON has no classes."""
        return None


def _checked(found: object, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{where} is a {type(found).__name__}; expected an object with a value for every column")
    return found
