"""The early peak of spectral position: the highest window of the first half of training, without its luck.

The highest of many noisy windows is too high: of a flat curve, too, some window lies above the end. So the window in
which a run is read is chosen by the other seeds of its size, which had no part in its noise. One seed alone has its
windows split into every other measurement: one half chooses the window, the other says how high it is; then they
change places, and the two values are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray, ratio_of_means
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import group

EARLY_FRACTION = 0.5


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


def early_peaks(runs: Sequence[RunData]) -> tuple[EarlyPeak, ...]:
    """The peaks of the runs of one size, among the windows (``windows.group``) wholly before half of their steps.

    A window has two measurements at least, and all runs have it. Errors are those of the chosen windows, not of the
    choice.
    """
    chi_pos = _peaks([_Early(run, run.measurements.chi_pos, np.ones(len(run.measurements))) for run in runs])
    unbiased = _peaks(
        [
            _Early(run, run.measurements.delta_loss_unbiased, run.measurements.chi_loss * run.measurements.chi_net)
            for run in runs
        ]
    )
    return tuple(
        EarlyPeak(chi_pos=mini, chi_pos_unbiased=population, n_units=n_units)
        for (mini, n_units), (population, _) in zip(chi_pos, unbiased, strict=True)
    )


_Steps = tuple[int, int]


class _Early:
    """The early windows of one run, by first and last step: numerators and denominators of their measurements."""

    def __init__(self, run: RunData, above: FloatArray, below: FloatArray) -> None:
        m = run.measurements
        finite = np.isfinite(above) & np.isfinite(below)
        self.rows: dict[_Steps, tuple[FloatArray, FloatArray]] = {}
        self.n_units: dict[_Steps, int] = {}
        for rows in group(m.step, m.n_units):
            steps = (int(m.step[rows.start]), int(m.step[rows.stop - 1]))
            if steps[1] < EARLY_FRACTION * run.steps and finite[rows].sum() >= 2:
                self.rows[steps] = (above[rows][finite[rows]], below[rows][finite[rows]])
                self.n_units[steps] = int(m.n_units[rows.start])


def _peaks(runs: Sequence[_Early]) -> list[tuple[Estimate, tuple[int, ...]]]:
    """The peak's value, and the units of the windows behind it, of every run."""
    shared = [steps for steps in runs[0].rows if all(steps in run.rows for run in runs)]
    if not shared:
        return [(Estimate.missing("no window of two measurements lies in the first half of training"), ())] * len(runs)
    if len(runs) == 1:
        return [_alone(runs[0], shared)]
    found: list[tuple[Estimate, tuple[int, ...]]] = []
    for run in runs:
        others = [other for other in runs if other is not run]
        values = [
            sum(float(other.rows[steps][0].sum()) for other in others)
            / sum(float(other.rows[steps][1].sum()) for other in others)
            for steps in shared
        ]
        best = shared[int(np.argmax(values))]
        found.append((ratio_of_means(*run.rows[best]), (run.n_units[best],)))
    return found


def _alone(run: _Early, shared: Sequence[_Steps]) -> tuple[Estimate, tuple[int, ...]]:
    halves = [[_half(run.rows[steps], half) for steps in shared] for half in (0, 1)]
    best = [int(np.argmax(half)) for half in halves]
    whole = [ratio_of_means(*run.rows[shared[i]]) for i in best]
    # A half has sqrt(2) times the error of its window; two halves of one window make it whole.
    peak = Estimate(
        value=(halves[1][best[0]] + halves[0][best[1]]) / 2,
        stderr=math.hypot(*(each.stderr for each in whole)) / math.sqrt(2),
        n=min(each.n for each in whole),
    )
    return peak, tuple(sorted({run.n_units[shared[i]] for i in best}))


def _half(rows: tuple[FloatArray, FloatArray], half: int) -> float:
    return float(rows[0][half::2].sum() / rows[1][half::2].sum())
