"""Comparing a Decomposition with the oracle's numbers. All tolerances against the oracle live here."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from oracle import Number

import spectral_reach as sr

# Relative to what was added and subtracted on the way. float64 rounding is 1e-16 an operation; sums over thousands of
# terms and eigendecompositions lose a few digits of the sixteen.
RELATIVE = 1e-9


def disagreements(
    result: sr.Decomposition, expected: Mapping[str, Number], relative: float = RELATIVE
) -> dict[str, tuple[float, float]]:
    """The fields of ``expected`` in which the result is another number: name -> (got, expected)."""
    found = {}
    for name, number in expected.items():
        got = getattr(result, name)
        if name.endswith("_unbiased_stderr"):
            # A square root of differences: where these cancel, a rounding of size e shows as sqrt(e).
            close = abs(got**2 - number.value**2) <= relative * number.scale**2
        else:
            close = abs(got - number.value) <= relative * number.scale
        if not close:
            found[name] = (got, number.value)
    return found


def undefined_fields(result: sr.Decomposition) -> set[str]:
    return {name for name, value in result.as_dict().items() if isinstance(value, float) and math.isnan(value)}


def rounding_of(dtype: torch.dtype) -> float:
    """Relative error that a small model of a few layers may gather in ``dtype``: 8 units in the last place."""
    return 8 * torch.finfo(dtype).eps


def assert_equal(a: sr.Decomposition, b: sr.Decomposition, relative: float = 0.0) -> None:
    """Field by field; NaN equals NaN."""
    for name, value in a.as_dict().items():
        other = getattr(b, name)
        if isinstance(value, float):
            same = value == other or (math.isnan(value) and math.isnan(other))
            assert same or math.isclose(value, other, rel_tol=relative), f"{name}: {value!r} != {other!r}"
        else:
            assert value == other, name
