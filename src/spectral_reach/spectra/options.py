"""Checks of what a caller may ask of a spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import get_args

from spectral_reach.spectra.result import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class LanczosOptions:
    """What a caller may ask of a Krylov process, checked.

    Attributes:
        steps: at most so many.
        tolerance: stop when every quantile is certain within this relative width; 0 for all the steps.
        quantiles: of the loss reduction.
        density_vectors: random vectors for the density of all eigenvalues.
        probes: of the trace.
    """

    steps: int
    tolerance: float
    quantiles: tuple[float, ...]
    density_vectors: int
    probes: int


def check_method(method: object) -> None:
    """Refuse what is no method.

    Raises:
        ValueError: it is none.
    """
    if method not in get_args(Method):
        raise ValueError(f"method={method!r} is unknown; expected {' or '.join(map(repr, get_args(Method)))}")


def tolerance_from(value: object) -> float:
    """``value`` as a relative width.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"tolerance is {value!r}; expected a number")
    width = float(value)
    if not 0 <= width < math.inf:
        raise ValueError(f"tolerance is {width:g}; expected 0 or a positive number")
    return width


def fractions(values: object) -> tuple[float, ...]:
    """``values`` as fractions between 0 and 1.

    Raises:
        TypeError, ValueError: they are none.
    """
    if (
        not isinstance(values, Sequence)
        or not values
        or any(isinstance(each, bool) or not isinstance(each, Real) for each in values)
    ):
        raise TypeError(f"quantiles is {values!r}; expected one fraction or more, for example (0.1, 0.5, 0.9)")
    found = tuple(float(each) for each in values)
    if not all(0 < each < 1 for each in found):
        raise ValueError(f"quantiles is {values!r}; expected fractions between 0 and 1")
    return found
