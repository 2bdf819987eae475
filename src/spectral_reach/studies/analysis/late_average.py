"""Where a run ended: averages over the last tenth of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, mean, ratio_of_means
from spectral_reach.studies.analysis.study_data import RunData

LATE_FRACTION = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class LateAverage:
    """A run's last tenth: everything recorded at steps >= 0.9 * steps, with errors that allow for neighbours alike.

    Attributes:
        first_step: the first step that counts as late.
        n_units: units of the late measurements, usually one number; chi_pos of a mini-batch depends on it.
        chi_pos: mean of the mini-batches' spectral position.
        chi_pos_unbiased: mean(delta_loss_unbiased) / mean(chi_loss * chi_net), the population's spectral
        position.
        train_loss: mean training loss; its error is that of the batches, one model on many of them.
        heldout_loss: of the final model, one evaluation; NaN with a reason if there was none.
    """

    first_step: int
    n_units: tuple[int, ...]
    chi_pos: Estimate
    chi_pos_unbiased: Estimate
    train_loss: Estimate
    heldout_loss: float
    heldout_reason: str | None


def late_average(run: RunData, *, heldout: bool = False) -> LateAverage:
    """Average the last tenth of a finished run; of an unfinished one everything is NaN, with the reason.

    ``heldout``: take spectral position from the measurements on held-out data; the losses are the same.
    """
    first_step = math.ceil(LATE_FRACTION * run.steps)
    measurements = run.heldout if heldout else run.measurements
    if not run.is_finished:
        reason = f"unfinished: {run.steps_done} of {run.steps} steps"
        none = Estimate.missing(reason)
        return LateAverage(
            first_step=first_step,
            n_units=(),
            chi_pos=none,
            chi_pos_unbiased=none,
            train_loss=none,
            heldout_loss=math.nan,
            heldout_reason=reason,
        )
    late = measurements.step >= first_step
    scale = (measurements.chi_loss * measurements.chi_net)[late]
    train_loss = run.losses.train_loss[(run.losses.step >= first_step) & (run.losses.step < run.steps)]
    diverged = int((~np.isfinite(train_loss)).sum())
    final = run.losses.heldout_loss[run.losses.step == run.steps]
    evaluated = len(final) == 1 and bool(np.isfinite(final[0]))
    return LateAverage(
        first_step=first_step,
        n_units=tuple(sorted(set(measurements.n_units[late].tolist()))),
        chi_pos=mean(measurements.chi_pos[late], in_sequence=True),
        chi_pos_unbiased=ratio_of_means(measurements.delta_loss_unbiased[late], scale, in_sequence=True),
        train_loss=Estimate.missing(f"the training loss is not finite at {diverged} late steps")
        if diverged
        else mean(train_loss, in_sequence=True),
        heldout_loss=float(final[0]) if evaluated else math.nan,
        heldout_reason=None if evaluated else "the final model was not evaluated on held-out data",
    )
