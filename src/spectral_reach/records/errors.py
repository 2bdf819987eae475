"""What can go wrong with files, told so that a user knows what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}


TensorFileError = SafetensorError
"""What reading a cut or damaged safetensors file raises, for rooms that know files only through this one."""


class RecordError(Exception):
    """A file or folder of a run cannot be read or written; the message names it, the reason and the remedy."""


class RunFolderBusyError(RecordError):
    """Another process is writing this run folder."""


class ForeignFolderError(RecordError, ValueError):
    """A folder that is no run folder, not one that this version reads, or the folder of another run."""


ANOTHER_FOLDER = "choose another output folder"


@contextmanager
def write_errors_told(path: Path, instead: str = ANOTHER_FOLDER) -> Iterator[None]:
    """Turn what the operating system says about writing ``path`` into a ``RecordError`` with a remedy.

    ``instead`` is what else a user may do than mend the place itself.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        code = error.errno if isinstance(error, OSError) else _code_in(str(error))
        # Some messages carry the name of a temporary file; the plain text of the code is what helps.
        reason = os.strerror(code) if code else str(error)
        raise RecordError(f"{path} cannot be written: {reason}. {_remedy(code, instead)}") from error


def _code_in(message: str) -> int | None:
    """safetensors wraps what the system says in an error of its own, as ``... (os error 28)``."""
    match = re.search(r"\(os error (\d+)\)", message)
    return int(match[1]) if match else None


def _remedy(code: int | None, instead: str) -> str:
    if code in _FULL:
        todo = f"Free space (or raise the quota or file size limit), or {instead}"
    elif code in _NOT_ALLOWED:
        todo = f"Make the folder writable or {instead}"
    else:
        todo = f"Check the disk and the path, or {instead}"
    return f"{todo}; every finished measurement is still readable."
