"""Which factor governs chi_net * chi_pos over training: the share of chi_pos in the changes of the two.

In windows of measurements, with x = log chi_pos and z = log chi_net, whose sum is the logarithm of the product, the
share is

    V / (V + var(z)),    V = var(x) - the mean of the windows' own variances of x.

At 1/2 both change as much, whether together or against each other; above 4/5 the changes of x are more than twice
those of z. That says nothing on how much of the product's variance x explains, for which the correlation of x and z
counts too: with var(x) = 1, var(z) = 1/4 and a correlation of -1/2 it is R^2 = 3/4. Nor would R^2 do instead: any two
factors that move together give R^2 = 1.

All runs of a size are averaged in the same windows, numerators and denominators apart; the share is that of their
mean curve.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray, ratio_of_means
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import group

LEAST_WINDOWS = 4
LEAST_CHANGES = 4.0  # variance over that of the windows' errors: less may be noise, which would pass for changes
MOST_LEFT_OUT = 0.25  # of the windows
SIGNIFICANT = 1.96  # standard errors above 0, for a window to have a logarithm


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionShare:
    """One size after its warm-up.

    Attributes:
        share: of chi_pos, with the jackknife's error over windows; ``n`` counts these.
        slope: of x + z against x by least squares; NaN where ``share`` has a reason.
        r2: of that line.
        left_out: windows whose position is not significantly positive.
    """

    share: Estimate
    slope: float
    r2: float
    left_out: int


def position_share(runs: Sequence[RunData], measure: str) -> PositionShare:
    """The share of ``measure``, chi_pos or chi_pos_unbiased, over the runs of one size.

    Windows are those of ``windows``; for chi_pos of mini-batches only those with the commonest number of units, on
    which it depends.
    """
    found = _windows(runs, measure)
    known = [each for each in found if each.position.is_defined and each.position.value > each.least and each.net > 0]
    left_out = len(found) - len(known)
    if len(known) < LEAST_WINDOWS or left_out > MOST_LEFT_OUT * len(found):
        reason = f"{len(known)} of {len(found)} windows after warm-up have a significantly positive {measure}; "
        reason += f"{LEAST_WINDOWS} and {1 - MOST_LEFT_OUT:.0%} of all are needed"
        return PositionShare(share=Estimate.missing(reason), slope=math.nan, r2=math.nan, left_out=left_out)
    x = np.log([each.position.value for each in known])
    net = np.log([each.net for each in known])
    own = np.array([(each.position.stderr / each.position.value) ** 2 for each in known])
    share = _share(x, net, own)
    every = np.arange(len(x))
    without = np.array([_share(x[every != i], net[every != i], own[every != i]) for i in every])
    if not (math.isfinite(share) and np.isfinite(without).all()):
        reason = "neither chi_pos nor chi_net changes much beside the windows' errors"
        return PositionShare(share=Estimate.missing(reason), slope=math.nan, r2=math.nan, left_out=left_out)
    n = len(x)
    stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    slope, r2 = _line(x, x + net)
    return PositionShare(share=Estimate(value=share, stderr=stderr, n=n), slope=slope, r2=r2, left_out=left_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """Spectral position and chi_net of all runs in one window."""

    position: Estimate
    net: float
    n_units: int

    @property
    def least(self) -> float:
        return SIGNIFICANT * self.position.stderr


def _windows(runs: Sequence[RunData], measure: str) -> list[_Window]:
    """Those wholly behind every run's warm-up, as the first run has them."""
    first = runs[0].measurements
    found = []
    for rows in group(first.step, first.n_units):
        steps, n_units = (first.step[rows.start], first.step[rows.stop - 1]), int(first.n_units[rows.start])
        if steps[0] < max(run.warmup_steps for run in runs):
            continue
        parts = [
            (run.measurements, (steps[0] <= run.measurements.step) & (run.measurements.step <= steps[1]))
            for run in runs
        ]
        net = np.concatenate([m.chi_net[here] for m, here in parts])
        if measure == "chi_pos":
            above, below = np.concatenate([m.chi_pos[here] for m, here in parts]), np.ones(len(net))
        else:
            above = np.concatenate([m.delta_loss_unbiased[here] for m, here in parts])
            below = np.concatenate([(m.chi_loss * m.chi_net)[here] for m, here in parts])
        found.append(_Window(position=ratio_of_means(above, below), net=float(net.mean()), n_units=n_units))
    if measure == "chi_pos" and found:
        counts = Counter(each.n_units for each in found)
        commonest = min(counts, key=lambda n: (-counts[n], n))
        found = [each for each in found if each.n_units == commonest]
    return found


def _share(x: FloatArray, net: FloatArray, own: FloatArray) -> float:
    position, noise = float(x.var(ddof=1)), float(own.mean())
    chi_net = float(net.var(ddof=1))
    if max(position, chi_net) <= LEAST_CHANGES * noise:
        return math.nan
    changes = max(0.0, position - noise)
    return changes / (changes + chi_net)


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    a, b = x - x.mean(), y - y.mean()
    slope = float(a @ b) / float(a @ a)
    return slope, 1 - float(((b - slope * a) ** 2).sum()) / float(b @ b)
