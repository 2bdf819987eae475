"""Do held-out and training position rise and fall together? Spearman's correlation over the windows of a run."""

from __future__ import annotations

import math

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate
from spectral_reach.studies.analysis.rank import spearman
from spectral_reach.studies.analysis.study_data import Measurements, RunData
from spectral_reach.studies.analysis.windows import Window, windows

LEAST_WINDOWS = 5


def curve_correlation(run: RunData, measure: str) -> Estimate:
    """The rank correlation of ``measure`` (chi_pos or chi_pos_unbiased) on held-out with that on training data.

    Over the windows that both tables have at the same steps, with the jackknife's error over windows. The noise of
    either pulls it towards 0.
    """
    train, held = (_by_steps(table, measure) for table in (run.measurements, run.heldout))
    steps = sorted(set(train) & set(held))
    a, b = (np.array([curve[each] for each in steps]) for curve in (train, held))
    n = len(steps)
    if n < LEAST_WINDOWS:
        return Estimate.missing(f"{n} windows have a held-out and a training position, {LEAST_WINDOWS} are needed")
    others = ~np.eye(n, dtype=bool)
    without = spearman(*(np.tile(curve, (n, 1))[others].reshape(n, n - 1) for curve in (a, b)))
    rho = float(spearman(a, b))
    if not (math.isfinite(rho) and np.isfinite(without).all()):
        return Estimate.missing("the position is the same in all windows")
    return Estimate(value=rho, stderr=math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum())), n=n)


def _by_steps(table: Measurements, measure: str) -> dict[tuple[int, int], float]:
    found: dict[tuple[int, int], float] = {}
    for window in windows(table):
        value = _value(window, measure)
        if math.isfinite(value):
            found[window.first_step, window.last_step] = value
    return found


def _value(window: Window, measure: str) -> float:
    return float(getattr(window, measure).value)
