"""A file of results that is its own cache: long-format Parquet, whole at every instant, that only ever grows.

An append reads the file again, adds its rows and renames the whole of it over the old one, all under a lock: two
processes that write one file lose nothing of each other, and a measurement is there with all its rows or not at all.
The columns are those of ``schema``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from spectral_reach import __version__
from spectral_reach.checkpoints.schema import KEY, QUANTITIES, SCHEMA, VERSION, Key, Label
from spectral_reach.records.atomic import is_leftover, make_folder, write_atomically
from spectral_reach.records.errors import RecordError, write_errors_told

_ANOTHER = "name another file with --out (in Python out=)"
_PATIENCE = 60.0
"""Seconds for which an append waits for another: one takes milliseconds."""

_LABEL = tuple(Label.__dataclass_fields__)
_KEY = tuple(Key.__dataclass_fields__)
_NAMES = [*_KEY, *_LABEL]


class Results:
    """Measurements by what they depend on.

    Args:
        path: a Parquet file, which the first append creates; None keeps them in memory alone.

    Raises:
        ValueError: a name that does not end in .parquet.
    """

    def __init__(self, path: Path | str | None) -> None:
        self.path = None if path is None else Path(path)
        if self.path is not None and self.path.suffix != ".parquet":
            raise ValueError(f"the file of results is {self.path}; expected a name that ends in .parquet.")
        self._rows = SCHEMA.empty_table()
        self._places: dict[Key, dict[Label, list[int]]] = {}

    def read(self) -> None:
        """Take in what is on disk now.

        Raises:
            RecordError: it is damaged, of another version, or no file of results; it stays as it is.
        """
        if self.path is not None:
            self._hold(_read(self.path))

    def make_folder(self) -> None:
        """Find out before the work, not after, that the file cannot be written.

        Raises:
            RecordError: its folder cannot be made.
        """
        if self.path is not None:
            make_folder(self.path.parent, _ANOTHER)

    def find(self, key: Key, label: Label) -> pa.Table | None:
        """The rows of a measurement, called ``label`` whatever they are called in the file; None if there is none."""
        labelled = self._places.get(key)
        if labelled is None:
            return None
        if label in labelled:
            return self._rows.take(labelled[label])
        rows = self._rows.take(next(iter(labelled.values())))
        return _called(rows, label)

    def __contains__(self, key: object) -> bool:
        """Whether a measurement with this ``Key`` is there, under whatever label."""
        return key in self._places

    def has(self, key: Key, label: Label) -> bool:
        """Whether the measurement is there under this very label."""
        return label in self._places.get(key, {})

    def append(self, rows: pa.Table) -> None:
        """Add the rows of whole measurements; when this returns they are on disk. Those that are there stay.

        Raises:
            RecordError: the file cannot be read or written; nothing that was there is lost.
        """
        if self.path is None:
            self._hold(self._with(rows))
            return
        with self._lock():
            for each in self.path.parent.iterdir():
                # What killed writers of this file have left; other files may be being written by others.
                if is_leftover(each) and each.name.endswith(f"-{self.path.name}"):
                    each.unlink()
            self._hold(_read(self.path))
            table = self._with(rows)
            write_atomically(self.path, lambda temporary: pq.write_table(table, temporary), _ANOTHER)
        self._hold(table)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        assert self.path is not None
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_PATIENCE)
        with write_errors_told(self.path, _ANOTHER):
            try:
                lock.acquire()
            except Timeout as error:
                raise RecordError(
                    f"{self.path} has been locked by another process for {_PATIENCE:.0f} s. Wait until that has "
                    f"ended or stop it, or {_ANOTHER}."
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _hold(self, table: pa.Table) -> None:
        """In place of the rows so far, which it mostly begins with: only what is below them is gone through."""
        known = len(self._rows)
        if not table.slice(0, known).select(_NAMES).equals(self._rows.select(_NAMES)):
            known, self._places = 0, {}
        for place, (key, label) in enumerate(_names(table.slice(known)), start=known):
            self._places.setdefault(key, {}).setdefault(label, []).append(place)
        self._rows = table

    def _with(self, rows: pa.Table) -> pa.Table:
        """``rows`` under those so far, without the measurements that another process has added meanwhile."""
        new = [place for place, (key, label) in enumerate(_names(rows)) if not self.has(key, label)]
        return (
            pa.concat_tables([self._rows, rows.take(pa.array(new, pa.int64()))])
            .combine_chunks()
            .replace_schema_metadata(SCHEMA.metadata)
        )


def _names(table: pa.Table) -> Sequence[tuple[Key, Label]]:
    rows = table.select(_NAMES).to_pylist()
    return [(Key(**{name: row[name] for name in _KEY}), Label(**{name: row[name] for name in _LABEL})) for row in rows]


def _called(rows: pa.Table, label: Label) -> pa.Table:
    """The rows under another name."""
    for name, value in asdict(label).items():
        field = SCHEMA.field(name)
        rows = rows.set_column(SCHEMA.get_field_index(name), field, pa.array([value] * len(rows), field.type))
    return rows


def _read(path: Path) -> pa.Table:
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
    except (FileNotFoundError, NotADirectoryError):
        return SCHEMA.empty_table()
    except (OSError, pa.ArrowException) as error:
        raise RecordError(
            f"{path} cannot be read: {error}. It is damaged or no Parquet file; it has been left as it is. Restore it "
            f"from a copy, or {_ANOTHER}."
        ) from error
    version = (table.schema.metadata or {}).get(KEY)
    if version is None:
        raise RecordError(
            f"{path} is a Parquet file of something else (columns {', '.join(table.column_names[:5])}, ...); expected "
            f"results of spectral-reach, or no file yet. It has been left as it is: {_ANOTHER}."
        )
    if version != str(VERSION).encode():
        raise RecordError(
            f"{path} holds results of version {version.decode(errors='replace')}; expected version {VERSION}, which "
            f"spectral-reach {__version__} reads. It has been left as it is: read it with the version that wrote it, "
            f"or {_ANOTHER}."
        )
    if not table.schema.equals(SCHEMA) or not set(table.column("quantity").to_pylist()) <= set(QUANTITIES):
        raise RecordError(
            f"{path} says that it holds results of version {VERSION}, but its columns or quantities are other ones. It "
            f"has been changed by something else, and left as it is: restore it from a copy, or {_ANOTHER}."
        )
    return table
