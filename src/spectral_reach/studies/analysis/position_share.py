"""Which factor governs chi_net * chi_pos over training: the share of chi_pos in the changes of the two.

In windows of measurements, with x = log chi_pos and z = log chi_net, whose sum is the logarithm of the product, the
share is

    V / (V + var(z)),    V = var(x) - the mean of the windows' own variances of x.

At 1/2 both change as much, whether together or against each other; above 4/5 the changes of x are more than twice
those of z, and x alone explains four fifths of the product's variance or more. The R^2 of a regression of x + z on x
would not do alone: any two factors that move together give R^2 = 1.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import group
from spectral_reach.studies.analysis.windows import windows as windows_of

LEAST_WINDOWS = 5
LEAST_CHANGES = 4.0  # variance over that of the windows' errors: less may be noise, which would pass for changes
SIGNIFICANT = 1.96  # standard errors above 0, for a window to have a logarithm


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionShare:
    """One run after its warm-up.

    Attributes:
        share: of chi_pos, with the jackknife's error over windows.
        slope: of x + z against x by least squares; NaN where ``share`` has a reason.
        r2: of that line.
        left_out: windows whose position is not significantly positive.
    """

    share: Estimate
    slope: float
    r2: float
    left_out: int


def position_share(run: RunData, measure: str) -> PositionShare:
    """The share of ``measure``, chi_pos or chi_pos_unbiased.

    Windows are those of ``windows``; for chi_pos of mini-batches only those with the commonest number of units, on
    which it depends.
    """
    m = run.measurements
    found = []
    for window, rows in zip(windows_of(m), group(m.step, m.n_units), strict=True):
        if window.first_step >= run.warmup_steps:
            position: Estimate = getattr(window, measure)
            found.append((window.n_units, position, float(m.chi_net[rows].mean())))
    if measure == "chi_pos" and found:
        counts = Counter(n_units for n_units, _, _ in found)
        commonest = min(counts, key=lambda n: (-counts[n], n))
        found = [each for each in found if each[0] == commonest]
    known = [(p, net) for _, p, net in found if p.is_defined and p.value > SIGNIFICANT * p.stderr and net > 0]
    left_out = len(found) - len(known)
    if len(known) < LEAST_WINDOWS:
        reason = f"{len(known)} of {len(found)} windows after warm-up have a significantly positive {measure}, "
        reason += f"{LEAST_WINDOWS} are needed"
        return PositionShare(share=Estimate.missing(reason), slope=math.nan, r2=math.nan, left_out=left_out)
    x = np.log([p.value for p, _ in known])
    net = np.log([chi_net for _, chi_net in known])
    own = np.array([(p.stderr / p.value) ** 2 for p, _ in known])
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
