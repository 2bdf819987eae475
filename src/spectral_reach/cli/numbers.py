"""Numbers of one result as a JSON file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write ``values``, their folder made where missing; NaN and infinities, at any depth, are null.

    Raises:
        RecordError: the file cannot be written.
    """
    from spectral_reach.records.atomic import make_folder, write_json_atomically

    make_folder(file.parent)
    write_json_atomically(file, _finite(values))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _finite(each) for name, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value
