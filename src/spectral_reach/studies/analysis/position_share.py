"""Which factor governs chi_net * chi_pos over training: the share of its changes that chi_pos makes.

With y = log(chi_net chi_pos) = log chi_net + x in windows of measurements, x = log chi_pos, the share is

    1 - var(log chi_net) / (var(y) - the mean of the windows' own variances of y):

1 where chi_net stands still, 0 where it changes as much as the product, below 0 where the changes of both cancel. The
R^2 of a regression of y on x would not do: y contains x, noise and all, and any two factors that move together give
R^2 = 1.
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
SIGNIFICANT = 1.96  # standard errors above 0, for a window to have a logarithm


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionShare:
    """One run after its warm-up.

    Attributes:
        share: of chi_pos in the variance of log(chi_net chi_pos), with the jackknife's error over windows.
        slope: of y against x by least squares; NaN where ``share`` has a reason.
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
        reason = "chi_net chi_pos changes no more than the windows' errors"
        return PositionShare(share=Estimate.missing(reason), slope=math.nan, r2=math.nan, left_out=left_out)
    n = len(x)
    stderr = math.sqrt((n - 1) / n * float(((without - without.mean()) ** 2).sum()))
    slope, r2 = _line(x, x + net)
    return PositionShare(share=Estimate(value=share, stderr=stderr, n=n), slope=slope, r2=r2, left_out=left_out)


def _share(x: FloatArray, net: FloatArray, own: FloatArray) -> float:
    changes = float((x + net).var(ddof=1)) - float(own.mean())
    return 1 - float(net.var(ddof=1)) / changes if changes > 0 else math.nan


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    a, b = x - x.mean(), y - y.mean()
    slope = float(a @ b) / float(a @ a)
    return slope, 1 - float(((b - slope * a) ** 2).sum()) / float(b @ b)
