"""How wide an interval is whose error is itself estimated."""

from __future__ import annotations


def student_factor(freedom: float, level: float = 0.95) -> float:
    """How many standard errors an interval reaches to either side, from so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2))
