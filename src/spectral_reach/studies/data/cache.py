"""Derived data that are slow to make, kept on disk: whole or rebuilt, also with two processes at once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from spectral_reach.records.atomic import built_aside, make_folder, remove_leftovers, write_atomically
from spectral_reach.records.errors import RecordError, write_errors_told

T = TypeVar("T")

_MANIFEST = "manifest.json"
ELSEWHERE = "set SPECTRAL_REACH_CACHE to a folder that can be written"
"""The remedy of errors about the cache, besides mending the place itself."""
_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What the system says of writing alone."""


def cache_root() -> Path:
    """``$SPECTRAL_REACH_CACHE``, else ``spectral-reach`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    if own := os.environ.get("SPECTRAL_REACH_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "spectral-reach"


def cached(key: str, build: Callable[[], Mapping[str, bytes]]) -> dict[str, bytes]:
    """The files that ``build()`` makes, by name and read; from the cache folder ``key`` where they are whole.

    ``key`` must change with everything the content depends on. A manifest, written last, holds each file's
    sha256: files that do not match it (a killed write, a damaged disk) are built again.

    Raises:
        RecordError: the cache folder cannot be written.
    """

    def make(folder: Path) -> dict[str, bytes]:
        files = dict(build())
        for name, content in files.items():
            write_atomically(folder / name, _writer(content), ELSEWHERE)
        _write_manifest(folder, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
        return files

    return _whole_or_made(cache_root() / key, _read_whole, make)


def cached_files(key: str, build: Callable[[Path], None]) -> dict[str, Path]:
    """The files that ``build(folder)`` leaves in an empty folder, by name, unread: to be memory-mapped.

    As ``cached``, for files too large to read each time: where sizes and times of change are those of the manifest the
    files count as whole. Where a time differs (a copied cache) their sha256 decides. A file is replaced, never
    rewritten, so one that another process has mapped stays as it is.

    Raises:
        RecordError: the cache folder cannot be written, or not be told from what it is built from.
        ValueError: a file that ``build`` opens elsewhere cannot be read.
    """

    def make(folder: Path) -> dict[str, Path]:
        if (hashes := _intact(folder)) is None:
            remove_leftovers(folder)
            built = _built_aside(folder, build)
            with write_errors_told(folder, ELSEWHERE):
                hashes = {file.name: sha256_of_file(file) for file in sorted(built.iterdir())}
                for name in hashes:
                    with write_errors_told(folder / name, ELSEWHERE):
                        (built / name).replace(folder / name)
                built.rmdir()
        with write_errors_told(folder, ELSEWHERE):
            states = {name: {"sha256": sha256} | _state(folder / name) for name, sha256 in hashes.items()}
        _write_manifest(folder, states)
        return {name: folder / name for name in hashes}

    return _whole_or_made(cache_root() / key, _unchanged, make)


def sha256_of_file(file: Path) -> str:
    """sha256 of a file's content, read in pieces."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _whole_or_made(folder: Path, whole: Callable[[Path], T | None], make: Callable[[Path], T]) -> T:
    if (files := whole(folder)) is not None:
        return files
    make_folder(folder, ELSEWHERE)
    lock = FileLock(folder / ".lock")
    with write_errors_told(folder, ELSEWHERE):
        lock.acquire()
    try:
        # Another process may have built it while this one waited for the lock.
        return files if (files := whole(folder)) is not None else make(folder)
    finally:
        lock.release()


def _built_aside(folder: Path, build: Callable[[Path], None]) -> Path:
    """``built_aside``, its errors told: a build writes in ``folder``, and reads its sources elsewhere."""
    try:
        return built_aside(folder / "files", build)
    except OSError as error:
        named = isinstance(error.filename, str | os.PathLike)
        if error.errno in _OF_WRITING or (named and Path(error.filename).is_relative_to(folder)):
            with write_errors_told(folder, ELSEWHERE):
                raise
        if not named:
            raise RecordError(
                f"{folder} cannot be built: {error.strerror or error}. Check the disk of what it is built from and its "
                f"own, or {ELSEWHERE}."
            ) from error
        raise ValueError(
            f"{error.filename} cannot be read: {error.strerror}; expected a readable file. Check the path and its "
            "permissions."
        ) from error


def _read_whole(folder: Path) -> dict[str, bytes] | None:
    manifest = _manifest(folder)
    try:
        files = {name: (folder / name).read_bytes() for name in manifest}
    except OSError:
        # Absent or unreadable: building again either mends it or says why it cannot be written.
        return None
    intact = all(hashlib.sha256(content).hexdigest() == manifest[name] for name, content in files.items())
    return files if files and intact else None


def _unchanged(folder: Path) -> dict[str, Path] | None:
    manifest = _manifest(folder)
    try:
        same = all({"sha256": entry["sha256"]} | _state(folder / name) == entry for name, entry in manifest.items())
    except (OSError, TypeError, KeyError):
        return None
    return {name: folder / name for name in manifest} if manifest and same else None


def _intact(folder: Path) -> dict[str, str] | None:
    """The sha256 of each file, where all are as the manifest says."""
    manifest = _manifest(folder)
    try:
        hashes = {name: sha256_of_file(folder / name) for name in manifest}
        same = all(hashes[name] == entry["sha256"] for name, entry in manifest.items())
    except (OSError, TypeError, KeyError):
        return None
    return hashes if hashes and same else None


def _state(file: Path) -> dict[str, int]:
    status = file.stat()
    return {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _manifest(folder: Path) -> dict[str, Any]:
    """What the manifest says by file name; empty where it is absent or damaged, which means building again."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomically(folder / _MANIFEST, _writer(json.dumps(manifest, indent=1).encode()), ELSEWHERE)


def _writer(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write
