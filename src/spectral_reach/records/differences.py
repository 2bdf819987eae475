"""Two configurations compared: what differs, setting by setting, for the error that refuses one of them.

Two floats are equal if they differ by rounding at most: some are derived, such as the entropy of a data set, and not
every processor adds up in the same order.
"""

from __future__ import annotations

import json
import math
from typing import Any

_ABSENT = object()
_ROUNDING = 1e-9
"""Relative; far above what the order of a sum changes, far below what anybody would set."""


def differences(have: Any, want: Any, name: str = "config") -> list[str]:
    """What differs, one line for each innermost setting: ``training.steps is 600 there, 900 here``."""
    if isinstance(have, dict) and isinstance(want, dict):
        prefix = "" if name == "config" else f"{name}."
        return [
            line
            for key in dict.fromkeys([*have, *want])
            for line in differences(have.get(key, _ABSENT), want.get(key, _ABSENT), prefix + key)
        ]
    if _equal(have, want):
        return []
    return [f"{name} is {_shown(have)} there, {_shown(want)} here"]


def _equal(have: Any, want: Any) -> bool:
    if isinstance(have, float) and isinstance(want, float):
        return math.isclose(have, want, rel_tol=_ROUNDING)
    if isinstance(have, list) and isinstance(want, list):
        return len(have) == len(want) and all(map(_equal, have, want))
    if isinstance(have, dict) and isinstance(want, dict):
        return not differences(have, want)
    return bool(have == want)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
