"""Results of measurements that are no rows of a run: one file each, JSON, or NumPy's npz where there are arrays.

A result names the task that it belongs to, with all its settings, so that one of other settings is never taken for it.
A file is written at once and atomically: it is whole or absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from spectral_reach.records.arrays import save_arrays
from spectral_reach.records.atomic import make_folder, remove_leftovers, write_json_atomically
from spectral_reach.records.differences import differences
from spectral_reach.records.errors import ForeignFolderError, RecordError

FORMAT = "spectral-reach result"
VERSION = 1

_HEADER = ".header"  # no name of a value


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """A result that has been read.

    Attributes:
        task: what it is the result of, as JSON values: ``name``, ``kind`` and ``settings``.
        values: by name: arrays (npz) and JSON values; what is not defined is None.
    """

    task: Mapping[str, Any]
    values: Mapping[str, Any]


class Results:
    """The results of a study: ``results/NAME.json`` or ``NAME.npz`` in its folder; the first save creates ``results``.

    Who saves holds the study folder. Nothing is pickled.

    Args:
        study: the folder of the study.
    """

    def __init__(self, study: Path | str) -> None:
        self.folder = Path(study) / "results"

    def save(self, task: Mapping[str, Any], values: Mapping[str, Any]) -> Path:
        """Write the result of a task durably; with arrays among the ``values`` as npz, else as JSON.

        Args:
            task: what was done: ``name`` (of the file too) and everything that determines the result.
            values: by name: NumPy arrays of numbers, bools or text, and JSON values; NaN becomes null.

        Raises:
            TypeError, ValueError: a value is neither an array without objects nor JSON, or infinite.
            RecordError: the operating system refuses.
        """
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        plain = {name: _null_for_nan(value) for name, value in values.items() if name not in arrays}
        header = {"format": FORMAT, "version": VERSION, "task": dict(task), "values": plain}
        stem = self.folder / str(task["name"])
        if not arrays:
            make_folder(self.folder)
            file = stem.with_name(f"{stem.name}.json")
            write_json_atomically(file, header)
            return file
        if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
            raise ValueError(
                f"the result of {task['name']!r} has arrays of objects: {', '.join(objects)}; expected numbers, bools "
                "or text."
            )
        text = json.dumps(header, allow_nan=False)
        return save_arrays({_HEADER: np.array(text), **arrays}, stem.with_name(f"{stem.name}.npz"))

    def has(self, task: Mapping[str, Any]) -> bool:
        """Whether the task has been done.

        Raises:
            ForeignFolderError: there is a result of that name, of other settings.
            RecordError: the file cannot be read.
        """
        file = self._file(str(task["name"]))
        if file is None:
            return False
        have = _read(file, with_values=False).task
        if differing := differences(dict(have), json.loads(json.dumps(dict(task)))):
            raise ForeignFolderError(
                f"{file} is the result of another task: {'; '.join(differing)}. Choose another output folder, or "
                "delete the file to have it made again."
            )
        return True

    def load(self, name: str) -> Result:
        """The result called ``name``.

        Raises:
            RecordError: there is none yet, or it cannot be read.
        """
        file = self._file(name)
        if file is None:
            raise RecordError(
                f"{self.folder} has no result {name!r}; expected {name}.json or {name}.npz. Run the study to its end."
            )
        return _read(file)

    def names(self) -> tuple[str, ...]:
        """Of all results that there are, sorted."""
        if not self.folder.is_dir():
            return ()
        files = (path for path in self.folder.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith("."))
        return tuple(sorted(path.stem for path in files))

    def remove_leftovers(self) -> None:
        """Delete what killed saves left behind. Only for who holds the study folder.

        Raises:
            RecordError: the operating system refuses.
        """
        remove_leftovers(self.folder)

    def _file(self, name: str) -> Path | None:
        paths = (self.folder / f"{name}{suffix}" for suffix in _SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


_SUFFIXES = (".json", ".npz")


def _read(file: Path, *, with_values: bool = True) -> Result:
    try:
        with file.open("rb") as handle:
            header, arrays = _parts(file, handle, with_values)
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, BadZipFile) as error:
        raise RecordError(
            f"{file} cannot be read: {error}. It is damaged, though a save never leaves it so: delete it and repeat "
            "the command to have it made again."
        ) from error
    known = isinstance(header, dict) and (header.get("format"), header.get("version")) == (FORMAT, VERSION)
    if not known:
        raise ForeignFolderError(
            f"{file} is not a {FORMAT!r} of version {VERSION}. Choose another folder, or read it with the version of "
            "spectral-reach that wrote it."
        )
    return Result(task=header["task"], values={**header["values"], **arrays})


def _parts(file: Path, handle: BinaryIO, with_values: bool) -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    if file.suffix == ".json":
        return json.load(handle), {}
    with np.load(handle, allow_pickle=False) as stored:
        header = json.loads(str(stored[_HEADER]))
        return header, {name: stored[name] for name in stored.files if with_values and name != _HEADER}


def _null_for_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _null_for_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
