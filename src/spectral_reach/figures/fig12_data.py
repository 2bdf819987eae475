"""The numbers behind Figure 12: everything that is drawn, one row a point, and nothing that is not in the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from spectral_reach.figures.spectrum_panels import binned
from spectral_reach.studies.analysis.estimate import mean
from spectral_reach.studies.analysis.spectra import SpectraResult

QUANTITIES = ("p", "gamma2", "product")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One point of one curve.

    Attributes:
        step: of the snapshot.
        quantity: ``p``, ``gamma2``, or their ``product``.
        k: mode, from 1; of a bin its geometric middle.
        sequences: behind it.
        value: mean over sequences (and over the modes of a bin).
        stderr: its standard error over sequences; NaN for a single one.
    """

    step: int
    quantity: str
    k: float
    sequences: int
    value: float
    stderr: float


COLUMNS = tuple(field.name for field in fields(Point))


def points_of(result: SpectraResult) -> tuple[Point, ...]:
    """Of the largest model: every p_k above rounding, and the binned shares."""
    parameters = result.sizes[-1]
    return tuple(
        point
        for step in result.steps_of(parameters)
        for quantity in QUANTITIES
        for point in _curve(result, parameters, step, quantity)
    )


def _curve(result: SpectraResult, parameters: int, step: int, quantity: str) -> Iterator[Point]:
    spectra = [each.spectrum for each in result.at(parameters, step)]
    # What is rounding in one of the sequences has no place in their mean.
    last = min(int((each.p > each.rounding).sum()) for each in spectra)
    modes = np.arange(1, last + 1)
    if quantity == "p":
        where, curves = modes.astype(np.float64), [each.p[:last] for each in spectra]
    else:
        values = [each.gamma2 if quantity == "gamma2" else each.gamma2 * each.p for each in spectra]
        binned_values = [binned(modes, each[:last]) for each in values]
        where, curves = binned_values[0][0], [means for _, means in binned_values]
    for k, column in zip(where, np.array(curves).T, strict=True):
        estimate = mean(column)
        stderr = estimate.stderr if len(spectra) > 1 else math.nan
        yield Point(
            step=step, quantity=quantity, k=float(k), sequences=len(spectra), value=estimate.value, stderr=stderr
        )
