"""The curves of a model size over training: windows of losses and measurements, averaged over the runs of that size.

Runs of equal parameters are one size. Of a size with finished runs only these count, so that a run still on its way
does not bend the curve where it stops. In every window the value is the mean over the runs. Its standard error is the
larger of two, as on isocompute curves: s / sqrt(S) with s^2 the variance among S runs, and what the measurements of
all runs give; two or three runs happen to agree too often for their spread alone to be trusted. A run counts in the
windows that it covers as the longest of its size does, so a window cut short is left to that one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, mean, ratio_of_means
from spectral_reach.studies.analysis.loss_curve import LossWindow, loss_curve
from spectral_reach.studies.analysis.study_data import Measurements, RunData
from spectral_reach.studies.analysis.windows import group

QUANTITIES = (
    "chi_loss",
    "chi_net",
    "chi_pos",
    "chi_pos_unbiased",
    "delta_loss",
    "delta_loss_unbiased",
    "chi_net_chi_pos",
    "chi_net_chi_pos_unbiased",
)
"""What a window of measurements estimates; the last two are chi_net * chi_pos = delta_loss / chi_loss, in both ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeWindow:
    """One point of a curve of a size.

    Attributes:
        first_step: the first step behind it.
        last_step: the last.
        tokens: mean number of tokens that a run had seen.
        flops: mean compute that a run had spent; of losses the geometric mean; 0 where step 0 is alone.
        n_units: units of each measurement; None for losses.
        runs: how many are averaged.
        estimates: by quantity; a quantity that no run defines is NaN, with its reason. ``n`` counts the losses or
            measurements of all runs.
    """

    first_step: int
    last_step: int
    tokens: float
    flops: float
    n_units: int | None
    runs: int
    estimates: Mapping[str, Estimate]


def by_size(runs: Sequence[RunData]) -> dict[int, tuple[RunData, ...]]:
    """The runs that count of every size, smallest size first, by parameters."""
    sizes: dict[int, tuple[RunData, ...]] = {}
    for parameters in sorted({run.parameters for run in runs}):
        same = tuple(run for run in runs if run.parameters == parameters)
        sizes[parameters] = tuple(run for run in same if run.is_finished) or same
    return sizes


def measurement_windows(
    runs: Sequence[RunData], of: Callable[[RunData], Measurements] = lambda run: run.measurements
) -> tuple[SizeWindow, ...]:
    """The windows of ``QUANTITIES``, measured in the runs of one size, in order of step.

    ``of`` says which measurements of a run: those on training data, or ``lambda run: run.heldout``.
    """
    return _average([_windows_of(of(run)) for run in runs])


def loss_windows(runs: Sequence[RunData]) -> tuple[SizeWindow, ...]:
    """The windows of ``train_loss`` of the runs of one size, on the grid of ``loss_curve``."""
    return _average([[_of_losses(run, window) for window in loss_curve(run)] for run in runs])


def heldout_losses(runs: Sequence[RunData]) -> tuple[SizeWindow, ...]:
    """``heldout_loss`` of the runs of one size at every step after the first at which it was taken.

    It is the loss of one model on one fixed set of units: a single run gives no error.
    """
    return _average([_evaluations(run) for run in runs])


def over_runs(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of the runs' values, with the standard error of this file's head; where one is NaN, NaN.

    ``n`` is that of all runs together. One run keeps its own.
    """
    if len(estimates) == 1:
        return estimates[0]
    if undefined := [estimate for estimate in estimates if math.isnan(estimate.value)]:
        return Estimate.missing(f"{len(undefined)} of {len(estimates)} runs: {undefined[0].reason}")
    found = mean(np.array([estimate.value for estimate in estimates]))
    own = math.hypot(*(estimate.stderr for estimate in estimates)) / len(estimates)
    stderr = found.stderr if math.isnan(own) else max(found.stderr, own)
    return replace(found, stderr=stderr, n=sum(estimate.n for estimate in estimates))


def _windows_of(measurements: Measurements) -> list[SizeWindow]:
    return [_window(measurements, rows) for rows in group(measurements.step, measurements.n_units)]


def _window(measurements: Measurements, rows: slice) -> SizeWindow:
    steps = measurements.step[rows]
    chi_loss, chi_net, chi_pos = measurements.chi_loss[rows], measurements.chi_net[rows], measurements.chi_pos[rows]
    delta_loss, unbiased = measurements.delta_loss[rows], measurements.delta_loss_unbiased[rows]
    estimates = {
        "chi_loss": mean(chi_loss),
        "chi_net": mean(chi_net),
        "chi_pos": mean(chi_pos),
        "chi_pos_unbiased": ratio_of_means(unbiased, chi_loss * chi_net),
        "delta_loss": mean(delta_loss),
        "delta_loss_unbiased": mean(unbiased),
        "chi_net_chi_pos": mean(chi_net * chi_pos),
        "chi_net_chi_pos_unbiased": ratio_of_means(unbiased, chi_loss),
    }
    return SizeWindow(
        first_step=int(steps[0]),
        last_step=int(steps[-1]),
        tokens=float(measurements.tokens[rows].mean()),
        flops=float(measurements.flops[rows].mean()),
        n_units=int(measurements.n_units[rows][0]),
        runs=1,
        estimates=estimates,
    )


def _of_losses(run: RunData, window: LossWindow) -> SizeWindow:
    steps = slice(*np.searchsorted(run.losses.step, [window.first_step, window.last_step + 1]))
    undefined = "the training loss is not finite" if np.isnan(window.loss) else "too few losses for an error"
    reason = undefined if np.isnan(window.loss) or np.isnan(window.stderr) else None
    return SizeWindow(
        first_step=window.first_step,
        last_step=window.last_step,
        tokens=float(run.losses.tokens[steps].mean()),
        flops=window.flops,
        n_units=None,
        runs=1,
        estimates={"train_loss": Estimate(value=window.loss, stderr=window.stderr, n=window.n, reason=reason)},
    )


def _evaluations(run: RunData) -> list[SizeWindow]:
    rows = np.flatnonzero(np.isfinite(run.losses.heldout_loss) & (run.losses.flops > 0))
    return [
        SizeWindow(
            first_step=int(run.losses.step[row]),
            last_step=int(run.losses.step[row]),
            tokens=float(run.losses.tokens[row]),
            flops=float(run.losses.flops[row]),
            n_units=None,
            runs=1,
            estimates={"heldout_loss": mean(run.losses.heldout_loss[[row]])},
        )
        for row in rows
    ]


def _average(curves: Sequence[Sequence[SizeWindow]]) -> tuple[SizeWindow, ...]:
    """Window by window, over the runs that have the same window as the longest."""
    longest = max(curves, key=lambda curve: curve[-1].last_step if curve else -1, default=())
    found: list[dict[tuple[int, int, int | None], SizeWindow]] = [{_place(w): w for w in curve} for curve in curves]
    averaged = []
    for window in longest:
        same = [curve[_place(window)] for curve in found if _place(window) in curve]
        averaged.append(window if len(same) == 1 else _mean_of(same))
    return tuple(averaged)


def _place(window: SizeWindow) -> tuple[int, int, int | None]:
    return window.first_step, window.last_step, window.n_units


def _mean_of(windows: Sequence[SizeWindow]) -> SizeWindow:
    estimates = {name: over_runs([w.estimates[name] for w in windows]) for name in windows[0].estimates}
    first = windows[0]
    return SizeWindow(
        first_step=first.first_step,
        last_step=first.last_step,
        tokens=float(np.mean([w.tokens for w in windows])),
        flops=float(np.mean([w.flops for w in windows])),
        n_units=first.n_units,
        runs=len(windows),
        estimates=estimates,
    )
