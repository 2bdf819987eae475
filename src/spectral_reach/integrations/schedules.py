"""When a callback measures if nobody says."""

from __future__ import annotations

EVERY = 100
_EARLY_PER_DECADE = 4


def default_schedule(step: int) -> bool:
    """Every 100 steps, and four times a decade before that: position moves fastest in the beginning.

    A measurement on the training batch costs about two training steps, so that this stays below one part in forty of a
    long training.
    """
    if step % EVERY == 0:
        return True
    return step < EVERY and step in {round(10 ** (j / _EARLY_PER_DECADE)) for j in range(2 * _EARLY_PER_DECADE)}
