"""Derived data that are slow to make, kept on disk: whole or rebuilt, also with two processes at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from spectral_reach.records.atomic import make_folder, write_atomically
from spectral_reach.records.errors import write_errors_told

_MANIFEST = "manifest.json"
_ELSEWHERE = "set SPECTRAL_REACH_CACHE to a folder that can be written"


def cache_root() -> Path:
    """``$SPECTRAL_REACH_CACHE``, else ``spectral-reach`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    if own := os.environ.get("SPECTRAL_REACH_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "spectral-reach"


def cached(key: str, build: Callable[[], Mapping[str, bytes]]) -> dict[str, bytes]:
    """The files that ``build()`` makes, by name; from the cache folder ``key`` where they are whole.

    ``key`` must change with everything the content depends on. A manifest, written last, holds each file's
    sha256: files that do not match it (a killed write, a damaged disk) are built again.

    Raises:
        RecordError: the cache folder cannot be written.
    """
    folder = cache_root() / key
    if (files := _whole(folder)) is not None:
        return files
    make_folder(folder, _ELSEWHERE)
    with write_errors_told(folder, _ELSEWHERE), FileLock(folder / ".lock"):
        # Another process may have built it while this one waited for the lock.
        if (files := _whole(folder)) is not None:
            return files
        files = dict(build())
        for name, content in files.items():
            write_atomically(folder / name, _writer(content), _ELSEWHERE)
        manifest = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        write_atomically(folder / _MANIFEST, _writer(json.dumps(manifest, indent=1).encode()), _ELSEWHERE)
        return files


def _whole(folder: Path) -> dict[str, bytes] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        if not isinstance(manifest, dict) or not manifest:
            return None
        files = {name: (folder / name).read_bytes() for name in manifest}
    except (OSError, ValueError):
        # Absent, damaged or unreadable: building again either mends it or says why it cannot be written.
        return None
    intact = all(hashlib.sha256(content).hexdigest() == manifest[name] for name, content in files.items())
    return files if intact else None


def _writer(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write
