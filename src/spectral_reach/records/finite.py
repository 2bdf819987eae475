"""Values as JSON has them: it knows no NaN and no infinities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """``value`` with null in place of NaN and infinities, at any depth of mappings and lists."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: finite(each) for name, each in value.items()}
        case list():
            return [finite(each) for each in value]
        case _:
            return value
