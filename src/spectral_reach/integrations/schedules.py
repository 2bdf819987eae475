"""When a callback measures if nobody says."""

from __future__ import annotations

from spectral_reach.tracking.schedule import log_windows

EVERY = 100
_EARLY = frozenset(log_windows(EVERY + 1, per_decade=4, width=1))


def default_schedule(step: int) -> bool:
    """Every 100 steps, and four times a decade before that: position moves fastest in the beginning."""
    return step % EVERY == 0 or step in _EARLY
