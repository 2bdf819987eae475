"""Neighbouring measurements grouped into windows: what one point and one error bar of a curve stand for.

Measurements come in windows of consecutive steps, evenly spaced in log(step) (``sr.log_windows``); early in training
these run into each other, and late in training more measurements may lie between them. So the windows are found again
from the steps alone. A window ends before a gap of more than ``GAP`` decades in step, once it has ``LEAST``
measurements and spans ``SPAN`` decades, and where the number of units changes, since chi_pos of a mini-batch depends on
it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_reach.studies.analysis.estimate import Estimate, mean, ratio_of_means
from spectral_reach.studies.analysis.study_data import Measurements

LEAST = 4
SPAN = 0.1
GAP = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One window of a run's measurements.

    ``flops`` is the mean compute spent at the window's measurements; it is 0 for a window that holds only
    step 0. ``chi_pos`` is a mean, ``chi_pos_unbiased`` a ratio of means, mean(delta_loss_unbiased) /
    mean(chi_loss * chi_net).
    """

    first_step: int
    last_step: int
    flops: float
    n_units: int
    chi_pos: Estimate
    chi_pos_unbiased: Estimate


def windows(measurements: Measurements) -> tuple[Window, ...]:
    """Every measurement in exactly one window, windows in order of step."""
    return tuple(_window(measurements, rows) for rows in group(measurements.step, measurements.n_units))


def group(steps: NDArray[np.int64], n_units: NDArray[np.int64]) -> tuple[slice, ...]:
    """Slices of the sorted ``steps`` that form windows.

    A gap no longer than the shortest one, 1 step or the n of a measurement every n steps, never ends a window: the
    first steps of training are decades apart. A remainder of fewer than ``LEAST / 2`` measurements that nothing but
    the span had cut off joins the window before it.
    """
    if len(steps) == 0:
        return ()
    position = np.log10(steps + 1.0)
    gaps = np.diff(steps)
    apart = (gaps > gaps.min(initial=np.iinfo(np.int64).max)) & (np.diff(position) > GAP)
    breaks = np.flatnonzero(apart | (np.diff(n_units) != 0)) + 1
    bounds = [0, *breaks.tolist(), len(steps)]
    return tuple(piece for start, end in itertools.pairwise(bounds) for piece in _cut_by_span(position, start, end))


def _cut_by_span(position: NDArray[np.float64], start: int, end: int) -> list[slice]:
    cuts = [start]
    for i in range(start, end):
        if i - cuts[-1] >= LEAST and position[i] - position[cuts[-1]] >= SPAN:
            cuts.append(i)
    if len(cuts) > 1 and end - cuts[-1] < LEAST / 2:
        cuts.pop()
    return [slice(a, b) for a, b in itertools.pairwise([*cuts, end])]


def _window(measurements: Measurements, rows: slice) -> Window:
    step = measurements.step[rows]
    return Window(
        first_step=int(step[0]),
        last_step=int(step[-1]),
        flops=float(measurements.flops[rows].mean()),
        n_units=int(measurements.n_units[rows][0]),
        chi_pos=mean(measurements.chi_pos[rows]),
        chi_pos_unbiased=ratio_of_means(
            measurements.delta_loss_unbiased[rows], (measurements.chi_loss * measurements.chi_net)[rows]
        ),
    )
