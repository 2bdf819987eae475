"""Rows of a user's file, read one by one: a batch needs a few of what may be millions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from spectral_reach.checkpoints.data.spec import HUB, Spec


class Rows(Protocol):
    """A table whose rows have names of columns and values as Python has them: text, numbers, lists, mappings."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that a row has values for."""
        ...

    @property
    def folder(self) -> Path:
        """What relative paths in it start from."""
        ...

    def __len__(self) -> int: ...

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """Row ``index``, from 0, at least those of ``columns`` that it has.

        Raises:
            ValueError: it is damaged.
        """
        ...

    def where(self, index: int) -> str:
        """Where a user finds row ``index``, as in "line 12"."""
        ...

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names of the classes that numbers in ``column`` stand for; None where they have none."""
        ...


def open_rows(spec: Spec) -> Rows:
    """The rows that a spec names.

    Raises:
        ValueError: there is no such file or folder, it is of no known kind, empty, or cannot be read.
        ImportError: it needs a package that is not installed.
    """
    from spectral_reach.checkpoints.data import csv_file, json_file, parquet_file, saved_data_set, text_file
    from spectral_reach.checkpoints.data.image_folder import open_image_folder

    readers: dict[str, Callable[[Path], Rows]] = {
        ".txt": text_file.TextFile,
        ".jsonl": json_file.JsonLines,
        ".json": json_file.JsonFile,
        ".csv": csv_file.CsvFile,
        ".parquet": parquet_file.ParquetRows,
    }
    if spec.place.startswith(HUB):
        return _not_empty(saved_data_set.from_hub(spec.place.removeprefix(HUB), spec.split), spec)
    path = Path(spec.place).expanduser()
    kinds = f"a file that ends in {', '.join(readers)}, a folder saved by datasets, or one with a folder a class"
    if path.is_dir():
        if saved_data_set.is_saved(path):
            return _not_empty(saved_data_set.from_disk(path, spec.split), spec)
        return _not_empty(open_image_folder(path, spec.split), spec)
    if not path.exists():
        raise ValueError(f"there is no {path}; expected {kinds}, or {HUB}DATASET[:CONFIG[:SPLIT]]")
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} ends in {path.suffix!r}; expected {kinds}")
    if spec.split is not None:
        raise ValueError(f"{path} is one file, which has no split {spec.split!r}; leave out split=")
    try:
        return _not_empty(readers[path.suffix.lower()](path), spec)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error


def _not_empty(rows: Rows, spec: Spec) -> Rows:
    if len(rows) == 0:
        raise ValueError(f"{spec.place} is empty; expected a row or more")
    return rows
