"""A folder on disk that holds everything about one run: what it is, what was measured, where it can go on."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spectral_reach import __version__
from spectral_reach.records.atomic import is_leftover, make_folder, remove_leftovers, write_json_atomically
from spectral_reach.records.checkpoints import Checkpoints
from spectral_reach.records.differences import differences
from spectral_reach.records.errors import ForeignFolderError, RunFolderBusyError, write_errors_told
from spectral_reach.records.snapshots import Snapshots
from spectral_reach.records.table import Table

FORMAT = "spectral-reach run"
VERSION = 1

_CONFIG = "config.json"
_MEASUREMENTS = "measurements.parquet"
_LOCK = ".lock"
_HOLDER = ".lock-holder"
_FINISHED = "finished.json"


class RunFolder:
    """One run on disk: ``config.json``, four tables, ``checkpoints/``, ``snapshots/``, and a folder with a table for
    each named batch.

    Killed at any instant, each file is whole. Reading needs no lock; who writes holds ``lock()``. Built by
    ``create`` and ``open``.

    Attributes:
        path: the folder.
        config: what the run is, as JSON values.
        measurements: one row for each measured step, ``measurements.parquet``.
        heldout_measurements: the same on held-out data, ``heldout_measurements.parquet``.
        updates: the effect of an update of the optimiser a row, ``updates.parquet``.
        losses: one row for each step, ``losses.parquet``.
        checkpoints: from where the run can go on.
        snapshots: weights that the run keeps for good.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.measurements = Table(path / _MEASUREMENTS)
        self.heldout_measurements = Table(path / "heldout_measurements.parquet")
        self.updates = Table(path / "updates.parquet")
        self.losses = Table(path / "losses.parquet")
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.snapshots = Snapshots(path / "snapshots")

    @classmethod
    def create(cls, path: Path | str, config: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder, or open the one that a run of the same ``config`` has left.

        Raises:
            ForeignFolderError: the folder belongs to another run (the message names what differs) or holds
                something else, or ``path`` is a file.
            TypeError: ``config`` is not JSON.
            RecordError: the folder cannot be written.
        """
        path, wanted = Path(path), _as_json(config)
        with write_errors_told(path):
            if not (path / _CONFIG).exists():
                _refuse_other_content(path)
                make_folder(path)
                # Two processes that start at once: one writes its config, the other compares its own with that.
                with _locked(path, timeout=5.0):
                    if not (path / _CONFIG).exists():
                        _write_config(path, wanted)
        folder = cls.open(path)
        if differing := differences(folder.config, wanted):
            raise ForeignFolderError(
                f"{path} belongs to another run: {'; '.join(differing)}. Choose another output folder, or "
                "repeat the settings of that run."
            )
        return folder

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The run folder at ``path``.

        Raises:
            ForeignFolderError: there is none, or one that this version does not read.
        """
        path = Path(path)
        return cls(path, _read_config(path))

    @contextmanager
    def lock(self, timeout: float = 5.0) -> Iterator[None]:
        """Be the only writer of the folder; what killed writers left behind is removed first.

        The operating system frees the lock when the process dies, however it dies. ``timeout`` is in seconds:
        a worker that was just killed may take a moment to be gone.

        Raises:
            RunFolderBusyError: the folder is still being written by someone else (the message says by whom).
            RecordError: the folder cannot be written.
        """
        with _locked(self.path, timeout):
            remove_leftovers(self.path)
            self.checkpoints.remove_leftovers()
            self.snapshots.remove_leftovers()
            for table in self.named_measurements.values():
                remove_leftovers(table.path.parent)
            yield

    def measurements_of(self, name: str) -> Table:
        """The measurements on a named batch or pair, ``NAME/measurements.parquet``; its folder is made."""
        folder = self.path / name
        make_folder(folder)
        return Table(folder / _MEASUREMENTS)

    @property
    def named_measurements(self) -> dict[str, Table]:
        """The measurements on each named batch and pair that has some, by name."""
        files = sorted(self.path.glob(f"*/{_MEASUREMENTS}"))
        # A run inside this one's folder has rows of its own.
        return {file.parent.name: Table(file) for file in files if not (file.parent / _CONFIG).exists()}

    @property
    def is_finished(self) -> bool:
        """Whether the run has reached its end."""
        return (self.path / _FINISHED).is_file()

    @property
    def summary(self) -> dict[str, Any] | None:
        """What ``mark_finished`` was given; None as long as the run is unfinished.

        Raises:
            ForeignFolderError: finished.json cannot be read.
        """
        return _read_json(self.path / _FINISHED) if self.is_finished else None

    def mark_finished(self, summary: Mapping[str, Any]) -> None:
        """Record durably that the run has reached its end, with its final numbers (JSON values).

        Raises:
            RecordError: the folder cannot be written.
            TypeError, ValueError: ``summary`` is not JSON.
        """
        write_json_atomically(self.path / _FINISHED, dict(summary))


@contextmanager
def _locked(path: Path, timeout: float) -> Iterator[None]:
    # Not thread-local: a loop may close in another thread what it opened in the first.
    lock = FileLock(path / _LOCK, timeout=timeout, thread_local=False)
    with write_errors_told(path):
        try:
            lock.acquire()
        except Timeout as error:
            raise RunFolderBusyError(
                f"{path} is being written by {_holder(path)}. Wait until that has ended or stop it, or choose "
                "another output folder."
            ) from error
    # A file of its own, because locking may empty the lock file, also when it fails.
    holder = path / _HOLDER
    try:
        with write_errors_told(path):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        # A name that stays behind misleads nobody: it is only read while somebody holds the lock.
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    try:
        return (path / _HOLDER).read_text(encoding="utf-8") or "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"


def _refuse_other_content(path: Path) -> None:
    """A folder without config.json is ours to fill if it is empty, or if a kill came while it was created."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ForeignFolderError(f"{path} is a file; expected a folder, or a path where there is nothing yet.")
    others = sorted(each.name for each in path.iterdir() if each.name not in (_LOCK, _HOLDER) and not is_leftover(each))
    if others:
        raise ForeignFolderError(
            f"{path} holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''} and no {_CONFIG}; expected a "
            "run folder, an empty folder or a new one. Choose another output folder."
        )


def _write_config(path: Path, config: dict[str, Any]) -> None:
    header = {"format": FORMAT, "version": VERSION, "spectral_reach": __version__, "config": config}
    write_json_atomically(path / _CONFIG, header)


def _read_config(path: Path) -> dict[str, Any]:
    file = path / _CONFIG
    header = _read_json(file)
    if header.get("format") != FORMAT:
        raise ForeignFolderError(
            f"{file} has the format {header.get('format')!r}; expected {FORMAT!r}. Choose another folder."
        )
    version = header.get("version")
    if version != VERSION:
        raise ForeignFolderError(
            f"{file} has version {version!r}, written by spectral-reach {header.get('spectral_reach')}; expected "
            f"version {VERSION}, which spectral-reach {__version__} reads. Read it with the version that wrote it, "
            "or choose another folder."
        )
    config = header.get("config")
    if not isinstance(config, dict):
        raise ForeignFolderError(
            f"{file} has the config {config!r}; expected settings by name. It is damaged: choose another folder."
        )
    return config


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ForeignFolderError(
            f"{file.parent} has no {file.name}; expected a run folder of spectral-reach. Check the path."
        ) from error
    except (OSError, ValueError) as error:
        raise ForeignFolderError(
            f"{file} cannot be read: {error}. It is damaged or not of spectral-reach: restore it from a copy or "
            "choose another folder."
        ) from error
    if not isinstance(value, dict):
        raise ForeignFolderError(
            f"{file} holds a JSON {type(value).__name__}; expected an object. Choose another folder."
        )
    return value


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config`` looks like when read back: tuples are lists, keys are strings."""
    try:
        value: dict[str, Any] = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"the config of a run is not JSON: {error}. Convert its values to JSON values.") from error
    return value
