"""The loss curve of a model size on a common grid of log compute, with copies redrawn within its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import FloatArray
from spectral_reach.studies.analysis.loss_curve import LossWindow, loss_curve
from spectral_reach.studies.analysis.study_data import RunData

LEAST_LOSSES = 5  # in a window: fewer say little about their own spread
NORMAL_FROM = 200  # losses whose mean is as good as normal


@dataclass(frozen=True, slots=True)
class SizeCurve:
    """One size, W windows of the grid; NaN where the size takes no part in the frontier.

    Attributes:
        parameters: of every run of this size.
        several_runs: whether there is more than one, so that ``redrawn`` carries the spread between seeds.
        log_flops: (W) mean log compute.
        loss: (W) mean training loss, averaged over the runs.
        redrawn: (draws, W) the loss with its noise drawn anew.
    """

    parameters: int
    several_runs: bool
    log_flops: FloatArray
    loss: FloatArray
    redrawn: FloatArray


def size_curves(runs: Sequence[RunData], draws: int, rng: np.random.Generator) -> list[SizeCurve]:
    """Every size that takes part somewhere, smallest first; runs of equal parameters are one size.

    Of a size with finished runs only these count, so that a run still on its way does not shorten the curve.
    """
    curves = {run.name: loss_curve(run) for run in runs}
    indices = [window.index for curve in curves.values() for window in curve]
    if not indices:
        return []
    first, n_windows = min(indices), max(indices) - min(indices) + 1
    sizes = []
    for parameters in sorted({run.parameters for run in runs}):
        same = [run for run in runs if run.parameters == parameters and curves[run.name]]
        same = [run for run in same if run.is_finished] or same
        if not same:
            continue
        grids = [_Grid(curves[run.name], first, n_windows) for run in same]
        loss = np.mean([grid.loss for grid in grids], axis=0)
        part = _takes_part(same, grids, loss)
        if part.any():
            size = SizeCurve(
                parameters=parameters,
                several_runs=len(same) > 1,
                log_flops=np.where(part, np.mean([grid.log_flops for grid in grids], axis=0), math.nan),
                loss=np.where(part, loss, math.nan),
                redrawn=np.where(part, _redraw(grids, loss, draws, rng), math.nan),
            )
            sizes.append(size)
    return sizes


class _Grid:
    """One run's windows laid out on the grid."""

    def __init__(self, curve: Sequence[LossWindow], first: int, n_windows: int) -> None:
        self.windows = {w.index - first: w for w in curve if w.n >= LEAST_LOSSES and math.isfinite(w.loss)}
        self.loss = np.full(n_windows, math.nan)
        self.log_flops = np.full(n_windows, math.nan)
        self.first_step = np.zeros(n_windows)
        for i, window in self.windows.items():
            self.loss[i] = window.loss
            self.log_flops[i] = window.log_flops
            self.first_step[i] = window.first_step


def _takes_part(runs: Sequence[RunData], grids: Sequence[_Grid], loss: FloatArray) -> np.ndarray:
    """From the first window behind warm-up with a loss below the unigram entropy on; (W) booleans."""
    warm = np.all([g.first_step >= run.warmup_steps for run, g in zip(runs, grids, strict=True)], axis=0)
    entropy = min(run.unigram_entropy for run in runs)
    past = warm & (loss < entropy)
    started: np.ndarray = np.logical_or.accumulate(past)
    return started & np.isfinite(loss)


def _redraw(grids: Sequence[_Grid], loss: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """(draws, W) copies of a size's loss.

    One run: the losses of every window are redrawn with replacement (about their trend). Several runs: whole
    runs are redrawn, their deviations from the mean scaled by sqrt(S / (S - 1)) so that S runs give the right
    variance; each brings its own batch noise along.
    """
    if len(grids) > 1:
        deviations = np.array([grid.loss - loss for grid in grids]) * math.sqrt(len(grids) / (len(grids) - 1))
        chosen = rng.integers(len(grids), size=(draws, len(grids)))
        counts = (chosen[:, :, None] == np.arange(len(grids))).sum(axis=1)
        several: FloatArray = loss + counts @ deviations / len(grids)
        return several
    redrawn = np.tile(loss, (draws, 1))
    for i, window in grids[0].windows.items():
        if window.n >= NORMAL_FROM:
            redrawn[:, i] += window.stderr * rng.standard_normal(draws)
        else:
            redrawn[:, i] += rng.choice(window.residuals, size=(draws, window.n)).mean(axis=1)
    return redrawn
