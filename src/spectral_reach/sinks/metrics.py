"""How a row of a table becomes metrics of a dashboard: names, and which values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from spectral_reach.decomposition.result import Decomposition
from spectral_reach.tracking.recorder import BATCH
from spectral_reach.tracking.updates import FIELDS

PREFIX = "spectral_reach/"
STEP = "step"
"""The key of a row: updates of the optimiser made so far, which every dashboard has on its axis."""
_FIELDS = {"measurement": frozenset(field.name for field in fields(Decomposition)), "update": FIELDS}
_FOLDERS = {"measurement": "", "update": "update/"}


def metrics_of(kind: str, row: Mapping[str, Any]) -> dict[str, float]:
    """What was measured, as metrics: ``spectral_reach/chi_pos``, ``spectral_reach/update/linear``, and of a named batch
    or pair ``spectral_reach/heldout/chi_pos``.

    Values that are not defined are left out, for dashboards draw them as numbers or break; so are counts, settings and
    the caller's own columns, which stand in the table.

    Raises:
        ValueError: ``kind`` is neither ``"measurement"`` nor ``"update"``.
    """
    start = prefix_of(kind, row)
    measured = {name: value for name, value in row.items() if name in _FIELDS[kind]}
    return {start + name: v for name, v in measured.items() if isinstance(v, float) and math.isfinite(v)}


def prefix_of(kind: str, row: Mapping[str, Any]) -> str:
    """What the metrics of a row begin with: of all rows of its kind and, if it has a name, of its batch.

    Raises:
        ValueError: ``kind`` is neither ``"measurement"`` nor ``"update"``.
    """
    if kind not in _FOLDERS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(_FOLDERS)}")
    name = row.get(BATCH)
    return PREFIX + ("" if name is None else f"{name}/") + _FOLDERS[kind]
