"""A run at a compute at which nothing was measured: its held-out loss and spectral position, interpolated.

The held-out loss is linear in log-log between evaluations. Spectral position is interpolated between the windows of
``windows``, linearly in log compute, numerator and denominator apart: with a weight w_k on window k, R = sum w_k N_k
/ sum w_k D_k, the mean of the windows' ratios weighted with w_k D_k. chi_pos is a mean of mini-batch values, as
everywhere, so its D_k is 1.

Nothing is extrapolated. The losses count from the first evaluation behind warm-up and below the unigram entropy on, as
on the frontier, the windows from the first behind warm-up on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_reach.studies.analysis.estimate import FloatArray, ratio_of_means
from spectral_reach.studies.analysis.study_data import RunData
from spectral_reach.studies.analysis.windows import group

NEIGHBOURS = 5  # evaluations that tell how far one of them is off
_ROUNDING = 1e-9  # of a logarithm of compute


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpolated:
    """A ratio of a run at one compute: numerator over denominator, and the standard error of the ratio, NaN if
    unknown."""

    numerator: float
    denominator: float
    stderr: float

    @property
    def value(self) -> float:
        """The ratio."""
        return self.numerator / self.denominator


@dataclass(frozen=True, kw_only=True, slots=True)
class LossPath:
    """The n held-out losses of one run that count.

    Attributes:
        log_flops: (n) natural logarithm of the compute.
        log_loss: (n) natural logarithm of the loss.
    """

    log_flops: FloatArray
    log_loss: FloatArray

    def at(self, log_flops: float) -> Interpolated | None:
        """The loss at this compute; None outside of the evaluations.

        How far one evaluation is off comes from how far each lies from the line between its two neighbours, over the
        ``NEIGHBOURS`` nearest ones (Gasser, Sroka and Jennen-Steinmetz 1986). The bend of the curve adds to it: that
        is the error of interpolating linearly, and makes the standard error cautious where evaluations are far apart.
        """
        weights = _weights(self.log_flops, log_flops)
        if weights is None:
            return None
        loss = math.exp(float(weights @ self.log_loss))
        return Interpolated(
            numerator=loss,
            denominator=1.0,
            stderr=loss * self._noise(log_flops) * math.sqrt(float(weights @ weights)),
        )

    def _noise(self, log_flops: float) -> float:
        x, y = self.log_flops, self.log_loss
        if len(x) < 3:
            return math.nan
        share = (x[1:-1] - x[:-2]) / (x[2:] - x[:-2])
        off = (y[1:-1] - (1 - share) * y[:-2] - share * y[2:]) / np.sqrt(1 + share**2 + (1 - share) ** 2)
        nearest = np.argsort(np.abs(x[1:-1] - log_flops), kind="stable")[:NEIGHBOURS]
        return float(np.sqrt((off[nearest] ** 2).mean()))


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionPath:
    """Spectral position of one run in W windows.

    Attributes:
        log_flops: (W) natural logarithm of the mean compute.
        ratio: (W) the position.
        stderr: (W) its standard error.
        denominator: (W) the mean that the position was divided by; 1 for chi_pos.
        n_units: (W) units of a measurement.
    """

    log_flops: FloatArray
    ratio: FloatArray
    stderr: FloatArray
    denominator: FloatArray
    n_units: NDArray[np.int64]

    def at(self, log_flops: float) -> Interpolated | None:
        """The position at this compute; None outside of the windows."""
        weights = _weights(self.log_flops, log_flops)
        if weights is None:
            return None
        weighted = weights * self.denominator
        denominator = float(weighted.sum())
        errors = weighted * self.stderr / denominator
        return Interpolated(
            numerator=float(weighted @ self.ratio), denominator=denominator, stderr=math.sqrt(float(errors @ errors))
        )

    def of_units(self, n_units: int) -> PositionPath:
        """Only the windows with this many units."""
        same = self.n_units == n_units
        return PositionPath(
            log_flops=self.log_flops[same],
            ratio=self.ratio[same],
            stderr=self.stderr[same],
            denominator=self.denominator[same],
            n_units=self.n_units[same],
        )


def loss_path(run: RunData) -> LossPath:
    """The evaluations behind warm-up from the first below the unigram entropy on; others than finite ones are left
    out."""
    losses = run.losses
    kept = np.isfinite(losses.heldout_loss) & (losses.heldout_loss > 0) & (losses.flops > 0)
    kept &= losses.step >= run.warmup_steps
    kept &= np.logical_or.accumulate(kept & (losses.heldout_loss < run.unigram_entropy))
    return LossPath(log_flops=np.log(losses.flops[kept]), log_loss=np.log(losses.heldout_loss[kept]))


def chi_pos_path(run: RunData) -> PositionPath:
    """chi_pos: the mean of every window behind warm-up."""
    m = run.measurements
    return _position_path(run, m.chi_pos, np.ones(len(m)))


def chi_pos_unbiased_path(run: RunData) -> PositionPath:
    """chi_pos_unbiased: mean(delta_loss_unbiased) / mean(chi_loss * chi_net) of every window behind warm-up."""
    m = run.measurements
    return _position_path(run, m.delta_loss_unbiased, m.chi_loss * m.chi_net)


def _position_path(run: RunData, numerator: FloatArray, denominator: FloatArray) -> PositionPath:
    """A window of one measurement has no error and is left out."""
    m = run.measurements
    finite = np.isfinite(numerator) & np.isfinite(denominator)
    found = []
    for rows in group(m.step, m.n_units):
        estimate = ratio_of_means(numerator[rows], denominator[rows])
        if m.step[rows.start] >= run.warmup_steps and m.flops[rows.start] > 0 and estimate.is_defined:
            found.append((rows, estimate, float(denominator[rows][finite[rows]].mean())))
    return PositionPath(
        log_flops=np.array([math.log(float(m.flops[rows].mean())) for rows, _, _ in found]),
        ratio=np.array([estimate.value for _, estimate, _ in found]),
        stderr=np.array([estimate.stderr for _, estimate, _ in found]),
        denominator=np.array([below for _, _, below in found]),
        n_units=np.array([m.n_units[rows.start] for rows, _, _ in found], dtype=np.int64),
    )


def _weights(grid: FloatArray, x: float) -> FloatArray | None:
    """(n) weights of linear interpolation at x; None outside of the increasing grid."""
    if len(grid) == 0 or not grid[0] - _ROUNDING <= x <= grid[-1] + _ROUNDING:
        return None
    inside = min(max(x, float(grid[0])), float(grid[-1]))
    return np.array([np.interp(inside, grid, one) for one in np.eye(len(grid))])
