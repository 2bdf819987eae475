"""L(N): the loss that finished runs end with against their parameters, and its power laws.

The train loss of a run is its mean over the last tenth of training, the held-out loss the one of the final model
(``late_average``). Runs of equal parameters are one size; a size's loss is the mean over them.

**Interval.** Where runs share a size often enough (``LEAST_DEGREES``), it covers the spread from seed to seed: a run's
relative deviation from the mean of its S runs, scaled by sqrt(S / (S - 1)), goes into one pool for all sizes, because
two or three runs alone say next to nothing about their spread, and every size's mean is redrawn from the pool,
widened by Student's factor for the pool's degrees of freedom. That takes the relative spread to be the same at every
size, also where a size has one run. A run's late windows with their batch noise are part of its deviation.

Otherwise, and where the sizes lie further off the law than their seeds explain (an F-test of the lack of fit, at 5%),
the scatter of the sizes about the law is redrawn. It holds seeds, windows and whatever else makes a size lie off the
law, but costs the degrees of freedom that the fit needs: four sizes of one run carry a power law and no irreducible
loss worth the name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from spectral_reach.studies.analysis.estimate import Estimate, FloatArray
from spectral_reach.studies.analysis.late_average import LateAverage, late_average
from spectral_reach.studies.analysis.power_fit import LEVEL, PowerFit, power_fit, students_factor
from spectral_reach.studies.analysis.study_data import RunData

LEAST_DEGREES = 3


class FinalLoss(StrEnum):
    """Which loss a run ends with."""

    HELDOUT = "heldout_loss"
    TRAIN = "train_loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeLoss:
    """One size: the mean loss of its runs; the error is that of the pooled seeds, else undefined with a reason."""

    parameters: int
    runs: int
    loss: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeLaw:
    """L(N) in both forms, x being parameters.

    Attributes:
        quantity: the loss.
        points: the sizes, smallest first.
        left_out: the runs that take no part, each with its reason.
        degrees: of freedom of the spread of seeds. Whether a form's interval comes from it or from the scatter about
            the law is the ``from_scatter`` of the form.
        without_irreducible: L = A N^-alpha.
        with_irreducible: L = E + A N^-alpha.
    """

    quantity: FinalLoss
    points: tuple[SizeLoss, ...]
    left_out: tuple[str, ...]
    degrees: int
    without_irreducible: PowerFit
    with_irreducible: PowerFit


def size_law(runs: Sequence[RunData], quantity: FinalLoss, *, seed: int = 0, draws: int = 1000) -> SizeLaw:
    """The laws of one family's runs.

    Unfinished runs are left out, and those that have learnt nothing: a late train loss that is not below the unigram
    entropy.
    """
    final: dict[int, list[float]] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: (run.parameters, run.name)):
        ended = _final_loss(run, late_average(run), quantity)
        if isinstance(ended, str):
            left_out.append(f"{run.name}: {ended}")
        else:
            final.setdefault(run.parameters, []).append(ended)
    pool = _pool(list(final.values()))
    degrees = sum(len(losses) - 1 for losses in final.values())
    parameters = np.array(list(final), dtype=np.float64)
    loss = np.array([np.mean(losses) for losses in final.values()])
    redrawn = None
    if degrees >= LEAST_DEGREES:
        rng = np.random.default_rng(seed)
        off = np.column_stack([rng.choice(pool, size=(draws, len(each))).mean(axis=1) for each in final.values()])
        redrawn = loss * (1 + students_factor(degrees) * off)

    def fit(irreducible: bool) -> PowerFit:
        if redrawn is not None:
            found = power_fit(parameters, loss, irreducible=irreducible, redrawn_loss=redrawn)
            if not _lacks_fit(found, degrees):
                return found
        return power_fit(parameters, loss, irreducible=irreducible, draws=draws, seed=seed)

    return SizeLaw(
        quantity=quantity,
        points=tuple(
            SizeLoss(parameters=size, runs=len(losses), loss=_with_error(losses, pool, degrees))
            for size, losses in final.items()
        ),
        left_out=tuple(left_out),
        degrees=degrees,
        without_irreducible=fit(irreducible=False),
        with_irreducible=fit(irreducible=True),
    )


def _final_loss(run: RunData, late: LateAverage, quantity: FinalLoss) -> float | str:
    """The loss that a run ends with, or why it takes no part."""
    if math.isnan(late.train_loss.value):
        return str(late.train_loss.reason)
    if late.train_loss.value >= run.unigram_entropy:
        return (
            f"it ends with a train loss of {late.train_loss.value:.3g}, not below the unigram entropy, "
            f"{run.unigram_entropy:.3g}"
        )
    if quantity is FinalLoss.TRAIN:
        return late.train_loss.value
    return late.heldout_loss if late.heldout_reason is None else late.heldout_reason


def _pool(groups: Sequence[Sequence[float]]) -> FloatArray:
    """Relative deviations of runs from the mean of their size, scaled to the variance of one run."""
    deviations = [
        (np.array(losses) / np.mean(losses) - 1) * math.sqrt(len(losses) / (len(losses) - 1))
        for losses in groups
        if len(losses) > 1
    ]
    return np.concatenate(deviations) if deviations else np.empty(0)


def _lacks_fit(found: PowerFit, degrees: int) -> bool:
    """Whether the sizes lie further off the law than their seeds explain."""
    from scipy.stats import f

    if found.reason is not None:
        return False
    seeds = found.noise_scale / students_factor(degrees)
    ratio = found.residual_scale / seeds if seeds > 0 else math.inf
    free = found.n - (3 if found.with_irreducible else 2)
    return bool(ratio**2 > f.ppf(1 - LEVEL, free, degrees))


def _with_error(losses: Sequence[float], pool: FloatArray, degrees: int) -> Estimate:
    value = float(np.mean(losses))
    if degrees < LEAST_DEGREES:
        reason = f"the spread of seeds has {degrees} degrees of freedom, {LEAST_DEGREES} are needed"
        return Estimate(value=value, stderr=math.nan, n=len(losses), reason=reason)
    return Estimate(value=value, stderr=value * float(np.sqrt((pool**2).mean() / len(losses))), n=len(losses))
