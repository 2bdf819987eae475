"""Two configurations compared: what differs, setting by setting, for the error that refuses one of them."""

from __future__ import annotations

import json
from typing import Any

_ABSENT = object()


def differences(have: Any, want: Any, name: str = "config") -> list[str]:
    """What differs, one line for each innermost setting: ``training.steps is 600 there, 900 here``."""
    if isinstance(have, dict) and isinstance(want, dict):
        prefix = "" if name == "config" else f"{name}."
        return [
            line
            for key in dict.fromkeys([*have, *want])
            for line in differences(have.get(key, _ABSENT), want.get(key, _ABSENT), prefix + key)
        ]
    if have == want:
        return []
    return [f"{name} is {_shown(have)} there, {_shown(want)} here"]


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
