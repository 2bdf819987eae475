"""What is raised where a model gives infinities or NaN, so that a caller can tell a diverged model from bad input."""

from __future__ import annotations


class NotFiniteError(ValueError):
    """Outputs, a loss, a gradient or a Jacobian that is not finite: there is nothing to measure."""
