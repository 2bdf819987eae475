"""A run's training loss on a grid of log compute: the curve that is drawn and that the frontier is made
of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.analysis.study_data import RunData

WINDOWS_PER_DECADE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWindow:
    """The training losses of one run in one window of the grid, [10^(k/10), 10^((k+1)/10)) FLOPs.

    Attributes:
        index: k, the same for the same compute in every run.
        first_step: first step in the window.
        last_step: last step in the window.
        log_flops: mean natural logarithm of the compute at these steps.
        loss: mean training loss, NaN if one of them is not finite.
        stderr: standard error of ``loss`` for batches drawn afresh, from the residuals; NaN below 3 steps.
        residuals: the losses less their straight line in log compute, scaled by sqrt(n / (n - 2)) for the two
            parameters of that line, so that their mean square is the variance of one loss; empty below 3
            steps.
    """

    index: int
    first_step: int
    last_step: int
    log_flops: float
    loss: float
    stderr: float
    residuals: FloatArray

    @property
    def n(self) -> int:
        """Losses in the window."""
        return self.last_step - self.first_step + 1

    @property
    def flops(self) -> float:
        """Geometric mean of the compute."""
        return math.exp(self.log_flops)


def loss_curve(run: RunData) -> tuple[LossWindow, ...]:
    """The windows of a run in order of compute. Step 0, before any compute, is in none."""
    losses = run.losses
    rows = np.flatnonzero((losses.flops > 0) & (losses.step < run.steps))
    if len(rows) == 0:
        return ()
    index = np.floor(np.log10(losses.flops[rows]) * WINDOWS_PER_DECADE).astype(np.int64)
    return tuple(
        _window(
            int(index[piece[0]]),
            losses.step[rows[piece]],
            losses.flops[rows[piece]],
            losses.train_loss[rows[piece]],
        )
        for piece in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(index)) + 1)
    )


def _window(index: int, step: NDArray[np.int64], flops: FloatArray, loss: FloatArray) -> LossWindow:
    n = len(loss)
    finite = bool(np.isfinite(loss).all())
    log_flops = np.log(flops)
    residuals = np.array([], dtype=np.float64)
    if n >= 3 and finite:
        x = log_flops - log_flops.mean()
        y = loss - loss.mean()
        residuals = (y - x * (x @ y) / (x @ x)) * math.sqrt(n / (n - 2))
    return LossWindow(
        index=index,
        first_step=int(step[0]),
        last_step=int(step[-1]),
        log_flops=float(log_flops.mean()),
        loss=float(loss.mean()) if finite else math.nan,
        stderr=float(np.sqrt((residuals**2).mean() / n)) if len(residuals) else math.nan,
        residuals=residuals,
    )
