"""Files that are whole or absent: never half-written, whatever happens to the process or the machine.

The content goes to a temporary file in the same folder, is flushed to the disk, and takes its final name in one
``rename``, which POSIX makes atomic. A reader, or a process that starts after a kill, sees the old content or the
new one. Flushing the folder makes the rename itself outlive a power failure.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from spectral_reach.records.errors import ANOTHER_FOLDER, write_errors_told

_LEFTOVER_PREFIX = ".partial-"


def write_atomically(path: Path, write: Callable[[Path], None], instead: str = ANOTHER_FOLDER) -> None:
    """Call ``write`` with a temporary path, then give what it wrote the name ``path``, in one step and durably.

    The temporary path keeps the suffix of ``path``, from which some writers infer the format. If anything is
    raised, ``path`` is untouched and the temporary file is gone; a kill leaves it for ``remove_leftovers``.
    ``instead`` is the other remedy that an error names.

    Raises:
        RecordError: the operating system refuses (full disk, read-only folder, ...).
    """
    with write_errors_told(path, instead):
        temporary = temporary_beside(path)
        try:
            write(temporary)
            fsync(temporary)
            os.replace(temporary, path)  # noqa: PTH105 - the atomic step, by its well-known name
        except BaseException:
            # What went wrong first is what has to be told, not that the clean-up failed as well.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync(path.parent)


def write_text_atomically(path: Path, text: str, instead: str = ANOTHER_FOLDER) -> None:
    """``write_atomically`` for a text, in UTF-8 and with line ends as they are.

    Raises:
        RecordError: the operating system refuses.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="")

    write_atomically(path, write, instead)


def write_json_atomically(path: Path, value: Any) -> None:
    """``write_atomically`` for a JSON value.

    Raises:
        RecordError: the operating system refuses.
        TypeError, ValueError: ``value`` is not JSON (NaN and infinities are not).
    """
    write_text_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def built_aside(path: Path, write: Callable[[Path], None]) -> Path:
    """A temporary folder beside ``path`` with what ``write`` has put into it, flushed; to be renamed.

    If anything is raised the folder is gone; a kill leaves it for ``remove_leftovers``.
    """
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        write(temporary)
        fsync_tree(temporary)
    except BaseException:
        # What went wrong first is what has to be told, not that the clean-up failed as well.
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return temporary


def make_folder(path: Path, instead: str = ANOTHER_FOLDER) -> None:
    """Create ``path`` with its parents where missing, durably; ``instead`` is the other remedy that an error names.

    Raises:
        RecordError: the operating system refuses.
    """
    with write_errors_told(path, instead):
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            fsync(path.parent)


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle on a folder to flush.
    # Windows flushes what may be written only; elsewhere a file that its writer made read-only counts too.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder. The rename is atomic on them all the same.
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder``, and itself."""
    for inside in sorted(folder.rglob("*")):
        fsync(inside)
    fsync(folder)


def temporary_beside(path: Path) -> Path:
    """A fresh name in the folder of ``path`` that ``remove_leftovers`` knows as temporary."""
    # Names come from the operating system's entropy: no generator that training uses is touched.
    return path.with_name(f"{_LEFTOVER_PREFIX}{uuid.uuid4().hex[:12]}-{path.name}")


def is_leftover(path: Path) -> bool:
    """Whether ``path`` has the name of a write that has not finished."""
    return path.name.startswith(_LEFTOVER_PREFIX)


def remove_leftovers(folder: Path) -> None:
    """Delete what killed writers left in ``folder``.

    Only for who holds the folder's lock: an unfinished write of a living process looks the same.

    Raises:
        RecordError: the operating system refuses.
    """
    with write_errors_told(folder):
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not is_leftover(entry):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
