"""Named arrays as one .npz file without pickle: whole or absent, and told clearly where it is damaged."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spectral_reach.records.atomic import make_folder, write_atomically
from spectral_reach.records.errors import RecordError

SUFFIX = ".npz"


def save_arrays(arrays: Mapping[str, np.ndarray], file: Path) -> Path:
    """Write the arrays to ``file``, its folder made where missing; returns the file.

    Raises:
        ValueError: the name does not end in .npz.
        RecordError: the file cannot be written.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"got the file name {file}; expected one that ends in {SUFFIX}")

    def write(path: Path) -> None:
        with path.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **arrays)

    make_folder(file.parent)
    write_atomically(file, write)
    return file


# What zipfile, zlib and NumPy say of a damaged file; the last three where a flag or a name is not what it was, or
# where there is an array alone.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError, KeyError, AttributeError, TypeError),
)


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """All arrays of ``file``.

    Raises:
        RecordError: the file is missing, cut, or holds what is no array.
    """
    try:
        # Opened here: NumPy leaves a file open that turns out to be no archive.
        with file.open("rb") as handle, np.load(handle, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except _UNREADABLE as error:
        raise RecordError(
            f"{file} cannot be read as arrays: {error}. Expected an {SUFFIX} file that this library wrote; restore it "
            "from a copy or make it again."
        ) from error
