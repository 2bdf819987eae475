"""A random order of units that is the same on every machine and in every version."""

from __future__ import annotations

import random
from collections.abc import Iterator


def random_order(n: int, seed: int) -> Iterator[int]:
    """0 .. n - 1 in random order, each once, without a list of them: Fisher and Yates, of which the swaps are kept.

    Python promises that ``Random(seed).random()`` gives the same numbers for ever; of shuffles nobody promises it. A
    longer draw begins with the shorter ones.
    """
    draw = random.Random(seed).random
    moved: dict[int, int] = {}
    for place in range(n):
        chosen = place + int(draw() * (n - place))
        yield moved.get(chosen, chosen)
        moved[chosen] = moved.get(place, place)
