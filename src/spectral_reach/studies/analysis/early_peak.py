"""The early peak of spectral position: the surest high window of the first half of training, without its luck.

The highest of many noisy windows is too high: of a flat curve, too, some window lies above the end. So the window in
which a run is read is chosen by the other seeds of its size, which had no part in its noise. One seed alone has its
windows split into every other measurement: one half chooses the window, the other says how high it is; then they
change places, and the two values are averaged.

Windows are known unequally well, and the highest value is mostly that of the noisiest, in which a run's own value then
says little. So the window is chosen by the lower end of its 95% interval, with Student's factor for its measurements:
two that happen to agree do not pass for precise. That may take a well-measured window beside the peak, never one that
is too high: what lies below it lies below the peak. What lies above it need not: for that, the window is chosen by the
upper end, as the one that may be the highest. A window of fewer than four measurements has no error in its halves; for
one seed alone these are left out, or, where most are so small, the highest value counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray, ratio_of_means
from spectral_reach.studies.analysis.seed_spread import student_interval
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import group

EARLY_FRACTION = 0.5

End = Literal["low", "high"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The peak of one run.

    Attributes:
        value: of chi_pos the mean over the window's mini-batches; of chi_pos_unbiased the ratio of means.
        n_units: units of the measurements there.
        is_later: whether its window is a later one than the first.
    """

    value: Estimate
    n_units: tuple[int, ...]
    is_later: bool


def early_peaks(runs: Sequence[RunData], measure: str, *, by: End = "low") -> tuple[Peak, ...]:
    """The peaks of the runs of one size, among the windows (``windows.group``) wholly before half of their steps.

    A window has two measurements at least, and all runs have it. Errors are those of the chosen windows, not of the
    choice.

    Args:
        runs: of one size.
        measure: ``chi_pos`` or ``chi_pos_unbiased``.
        by: by which end of their intervals windows are chosen.
    """
    early = [_Early(run, *_parts(run, measure)) for run in runs]
    shared = [steps for steps in early[0].rows if all(steps in run.rows for run in early)]
    if not shared:
        nothing = Estimate.missing("no window of two measurements lies in the first half of training")
        return (Peak(value=nothing, n_units=(), is_later=False),) * len(runs)
    if len(early) == 1:
        return (_alone(early[0], shared, by),)
    return tuple(_chosen_by(run, [other for other in early if other is not run], shared, by) for run in early)


def _parts(run: RunData, measure: str) -> tuple[FloatArray, FloatArray]:
    """Numerators and denominators of the measurements."""
    m = run.measurements
    return (m.chi_pos, np.ones(len(m))) if measure == "chi_pos" else (m.delta_loss_unbiased, m.chi_loss * m.chi_net)


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


def _chosen_by(run: _Early, others: Sequence[_Early], shared: Sequence[_Steps], by: End) -> Peak:
    """The peak of a run in the window that the other seeds choose."""
    values = [
        ratio_of_means(*(np.concatenate([other.rows[steps][side] for other in others]) for side in (0, 1)))
        for steps in shared
    ]
    i = _highest(values, by)
    best = shared[i]
    return Peak(value=ratio_of_means(*run.rows[best]), n_units=(run.n_units[best],), is_later=i > 0)


def _alone(run: _Early, shared: Sequence[_Steps], by: End) -> Peak:
    halves = [[_half(run.rows[steps], half) for steps in shared] for half in (0, 1)]
    best = [_highest(half, by) for half in halves]
    whole = [ratio_of_means(*run.rows[shared[i]]) for i in best]
    # A half has sqrt(2) times the error of its window; two halves of one window make it whole.
    peak = Estimate(
        value=(halves[1][best[0]].value + halves[0][best[1]].value) / 2,
        stderr=math.hypot(*(each.stderr for each in whole)) / math.sqrt(2),
        n=min(each.n for each in whole),
    )
    return Peak(value=peak, n_units=tuple(sorted({run.n_units[shared[i]] for i in best})), is_later=min(best) > 0)


def _half(rows: tuple[FloatArray, FloatArray], half: int) -> Estimate:
    return ratio_of_means(rows[0][half::2], rows[1][half::2])


def _highest(values: Sequence[Estimate], by: End) -> int:
    """Which has the highest end of its interval; the highest value, where most have no error."""
    known = [i for i, each in enumerate(values) if each.is_defined]
    if 2 * len(known) < len(values):
        return int(np.argmax([each.value for each in values]))
    ends = [getattr(student_interval(values[i], values[i].n - 1), by) for i in known]
    return known[int(np.argmax(ends))]
