"""sha256 of source files, each read once and remembered as long as the file stays as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from spectral_reach.records.atomic import make_folder, write_text_atomically
from spectral_reach.studies.data.cache import ELSEWHERE, cache_root, sha256_of_file


def file_hash(file: Path) -> str:
    """sha256 of the content; remembered by real path, size and time of change, so that gigabytes are read once.

    Raises:
        ValueError: the file is missing, cannot be read, or changes while it is read.
        RecordError: the cache folder cannot be written.
    """
    try:
        real = file.resolve(strict=True)
        before = _state(real)
        note = cache_root() / "file-hashes" / f"{hashlib.sha256(str(real).encode()).hexdigest()[:32]}.json"
        if (remembered := _remembered(note, before)) is not None:
            return remembered
        sha256 = sha256_of_file(real)
        if _state(real) != before:
            raise ValueError(f"{file} changed while it was read; expected a finished file. Wait until it is written.")
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read: {error.strerror or error}; expected a readable file. Check the path and its "
            "permissions."
        ) from error
    make_folder(note.parent, ELSEWHERE)
    content = json.dumps(before | {"sha256": sha256}, indent=1)
    write_text_atomically(note, content, ELSEWHERE)
    return sha256


def _state(file: Path) -> dict[str, str | int]:
    status = file.stat()
    return {"path": str(file), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _remembered(note: Path, state: dict[str, str | int]) -> str | None:
    try:
        stored = json.loads(note.read_bytes())
        sha256 = stored.pop("sha256")
    except (OSError, ValueError, AttributeError, KeyError):
        # Absent or damaged: the file is read again.
        return None
    return sha256 if stored == state and isinstance(sha256, str) else None
