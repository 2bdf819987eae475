"""The error of values that overflowed or are no numbers: of a model that has diverged, not of a caller's mistake."""

from __future__ import annotations


class NotFiniteError(ValueError):
    """Outputs, targets, a loss or derivatives are infinite or NaN, so that nothing can be measured at this point."""
