"""Fewer points of a long curve, where a screen could not tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def evenly_in_log(curve: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the entries, the first and the last among them, evenly in the logarithm of their number."""
    if len(curve) <= most:
        return list(curve)
    places = sorted({round(place) for place in np.geomspace(1, len(curve), most)})
    return [curve[place - 1] for place in places]
