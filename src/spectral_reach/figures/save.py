"""A figure and the numbers behind it as files: the same input gives the same bytes, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spectral_reach.records.atomic import make_folder, write_atomically

FORMATS = ("png", "pdf", "svg")

# What would otherwise differ from run to run: the time of writing.
_METADATA: Mapping[str, Mapping[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def check_formats(formats: Sequence[str]) -> None:
    """Refuse formats that no figure is written in.

    Raises:
        ValueError: a format is unknown, or there is none.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"got figure formats {list(formats)}, expected some of {list(FORMATS)}; leave out the others.")


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = FORMATS) -> tuple[Path, ...]:
    """Write ``stem.png``, ``stem.pdf``, ``stem.svg``; call it inside ``style()``. Returns the files.

    Raises:
        ValueError: an unknown format.
        RecordError: the folder cannot be written.
    """
    check_formats(formats)
    FigureCanvasAgg(figure)
    make_folder(stem.parent)
    files = []
    for name in formats:
        file = stem.with_name(f"{stem.name}.{name}")
        write_atomically(file, partial(_write, figure, name))
        files.append(file)
    return tuple(files)


def _write(figure: Figure, name: str, path: Path) -> None:
    figure.savefig(path, format=name, metadata=dict(_METADATA[name]))


def save_rows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], file: Path) -> Path:
    """Write rows as CSV. Numbers are written with every digit they have; what is missing (None) stays empty.

    Raises:
        RecordError: the folder cannot be written.
    """
    rows = list(rows)

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    make_folder(file.parent)
    write_atomically(file, write)
    return file
