"""The early peak of spectral position: the highest window of the first half of training, without its luck.

The highest of many noisy windows is too high: of a flat curve, too, some window lies above the end. So each window's
measurements are split into every other one. One half chooses the window, the other half, which has no part in the
choice, says how high it is; then the halves change places, and the two values are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray, ratio_of_means
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import group

EARLY_FRACTION = 0.5
LEAST = 4  # measurements of a window, two a half


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyPeak:
    """The peak of one run.

    Attributes:
        chi_pos: mean of the mini-batches' spectral position there.
        chi_pos_unbiased: the population's, as a ratio of means; its window need not be the same.
        n_units: units of the measurements of chi_pos there.
    """

    chi_pos: Estimate
    chi_pos_unbiased: Estimate
    n_units: tuple[int, ...]


def early_peak(run: RunData) -> EarlyPeak:
    """The peak among the windows (``windows.group``) that lie wholly before half of the run's steps.

    Its error is that of the chosen windows, not of the choice.
    """
    m = run.measurements
    rows = [
        rows
        for rows in group(m.step, m.n_units)
        if m.step[rows.stop - 1] < EARLY_FRACTION * run.steps and rows.stop - rows.start >= LEAST
    ]
    chi_pos, places = _peak(m.chi_pos, np.ones(len(m)), rows)
    unbiased, _ = _peak(m.delta_loss_unbiased, m.chi_loss * m.chi_net, rows)
    return EarlyPeak(
        chi_pos=chi_pos,
        chi_pos_unbiased=unbiased,
        n_units=tuple(sorted({int(m.n_units[rows[place].start]) for place in places})),
    )


def _peak(above: FloatArray, below: FloatArray, rows: list[slice]) -> tuple[Estimate, tuple[int, ...]]:
    """The peak's value, and the places in ``rows`` of the windows behind it."""
    whole = [ratio_of_means(above[each], below[each]) for each in rows]
    halves = np.array(
        [[ratio_of_means(above[each][half::2], below[each][half::2]).value for each in rows] for half in (0, 1)]
    ).reshape(2, len(rows))
    known = [i for i, each in enumerate(whole) if each.is_defined and np.isfinite(halves[:, i]).all()]
    if not known:
        reason = f"no window of {LEAST} measurements lies in the first half of training"
        return Estimate.missing(next((each.reason for each in whole if each.reason is not None), reason)), ()
    halves = halves[:, known]
    best = [int(half.argmax()) for half in halves]
    value = float(halves[1, best[0]] + halves[0, best[1]]) / 2
    # A half has sqrt(2) times the error of its window; two halves of one window make it whole.
    stderr = math.hypot(*(whole[known[i]].stderr for i in best)) / math.sqrt(2)
    places = tuple(sorted({known[i] for i in best}))
    return Estimate(value=value, stderr=stderr, n=sum(whole[place].n for place in places)), places
