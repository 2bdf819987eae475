"""Numbers of one result as a JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write ``values``, their folder made where missing; NaN and infinities, at any depth, are null.

    Raises:
        RecordError: the file cannot be written.
    """
    from spectral_reach.records.atomic import make_folder, write_json_atomically
    from spectral_reach.records.finite import finite

    make_folder(file.parent)
    write_json_atomically(file, finite(values))
