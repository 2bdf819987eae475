"""What a practitioner would act on, told from the rows of a tracker: only what stands out from its error.

Three questions, each asked of the newest measurements, each answered with an interval of 95%:

- *Is the gradient noise or signal?* E||g||^2 of a batch is ||G||^2 plus noise; their ratio f = ||G||^2 / E||g||^2 is
  the share of signal, and the noise scale of McCandlish et al. 2018 is B (1 - f) / f units for a batch of B.
- *Does position still fall?* In a power law of steps its logarithm falls evenly with that of the step.
- *Do two batches help each other?* Position of a pair is negative where a step on one raises the loss of the other.

What they cannot tell: noise that hurts from noise that regularises; a position that is flat since a model is at its
end from one that waits for a smaller learning rate; a pair that interferes for a while from one that always will.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spectral_reach.estimators.student import student_factor

LEAST = 5
"""Rows that a mean needs."""
MOSTLY_NOISE = 0.1
MOSTLY_SIGNAL = 0.9
FLAT = 1.25
"""A factor by which position has to change for it not to be called flat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlyWarning:
    """One finding.

    Attributes:
        kind: ``"gradient_noise"``, ``"flat_position"`` or ``"interference"``.
        step: of the newest row behind it.
        rows: how many rows are behind it.
        estimate, low, high: the share of signal in the squared gradient; position in the later over that in the earlier
            half of the last tenfold of steps; position of the pair. With their 95% interval.
        text: what it means, in words.
    """

    kind: str
    step: int
    rows: int
    estimate: float
    low: float
    high: float
    text: str


def early_warnings(rows: Sequence[Mapping[str, Any]]) -> list[EarlyWarning]:
    """The findings of a tracker's rows, ``tracker.history``; none where nothing stands out from its error.

    Only rows of the last tenfold of steps count, and at least five (ten for a flat position) have to be there.

    Example:
        >>> early_warnings([])
        []
    """
    rows = sorted(rows, key=lambda row: int(row["step"]))
    if not rows:
        return []
    last = int(rows[-1]["step"])
    newest = [row for row in rows if 10 * int(row["step"]) >= last]
    single = [row for row in newest if row.get("n_samples_against") is None]
    pairs = [row for row in newest if row.get("n_samples_against") is not None]
    found = (_gradient_noise(single), _flat_position(single, last), _interference(pairs))
    return [warning for warning in found if warning is not None]


def _gradient_noise(rows: Sequence[Mapping[str, Any]]) -> EarlyWarning | None:
    rows = _defined(rows, "delta_loss", "delta_loss_unbiased")
    if len(rows) < LEAST:
        return None
    share, error = _ratio(_column(rows, "delta_loss_unbiased"), _column(rows, "delta_loss"))
    low, high = _interval(share, error, len(rows) - 1)
    units = float(_column(rows, "n_units").mean())
    if high < MOSTLY_NOISE:
        scale = f"no signal is seen in a batch of {units:,.0f} units"
        if high > 0:
            scale = f"the noise scale is above {units * (1 - high) / high:,.0f} units and a batch has {units:,.0f}"
        text = (
            f"at least {min(1 - high, 1):.0%} of the squared gradient is noise: {scale}; larger batches, accumulation "
            "or a smaller learning rate make more of each unit"
        )
    elif low > MOSTLY_SIGNAL:
        # Above 1 the noise-corrected value is larger than the squared gradient, by chance.
        noise = max(1 - low, 0.0)
        text = (
            f"at most {noise:.0%} of the squared gradient is noise: the noise scale is below "
            f"{units * noise / low:,.1f} units and a batch has {units:,.0f}; smaller batches learn as much in a "
            "step, and the learning rate may be raised"
        )
    else:
        return None
    return _warning("gradient_noise", rows, share, low, high, text)


def _flat_position(rows: Sequence[Mapping[str, Any]], last: int) -> EarlyWarning | None:
    rows = _defined(rows, "chi_pos_unbiased")
    halves = [[row for row in rows if (int(row["step"]) ** 2 * 10 >= last**2) == late] for late in (False, True)]
    if min(map(len, halves)) < LEAST:
        return None
    early, late = (_mean(_column(half, "chi_pos_unbiased")) for half in halves)
    if early[0] <= 0 or late[0] <= 0:
        return None
    ratio = late[0] / early[0]
    error = math.hypot(early[1] / early[0], late[1] / late[0])  # of its logarithm
    factor = math.exp(student_factor(min(map(len, halves)) - 1) * error)
    low, high = ratio / factor, ratio * factor
    if not 1 / FLAT < low <= high < FLAT:
        return None
    text = (
        f"spectral position has been the same, within a factor of {max(high, 1 / low):.2f}, over the last tenfold of "
        "steps: learning no longer moves into the tail; a smaller learning rate shows whether the model could go "
        "further, a larger model reaches further"
    )
    return _warning("flat_position", rows, ratio, low, high, text)


def _interference(rows: Sequence[Mapping[str, Any]]) -> EarlyWarning | None:
    rows = _defined(rows, "chi_pos")
    if len(rows) < LEAST:
        return None
    mean, error = _mean(_column(rows, "chi_pos"))
    low, high = _interval(mean, error, len(rows) - 1)
    if high >= 0:
        return None
    text = (
        "a gradient step on the first batch raises the loss of the second: their position is negative; mix them, weigh "
        "them, or train them apart"
    )
    return _warning("interference", rows, mean, low, high, text)


def _warning(
    kind: str, rows: Sequence[Mapping[str, Any]], estimate: float, low: float, high: float, text: str
) -> EarlyWarning:
    step = int(rows[-1]["step"])
    return EarlyWarning(kind=kind, step=step, rows=len(rows), estimate=estimate, low=low, high=high, text=text)


def _defined(rows: Sequence[Mapping[str, Any]], *names: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if all(math.isfinite(row[name]) for name in names)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows], dtype=np.float64)


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """And its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))


def _ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> tuple[float, float]:
    """The ratio of means, and its standard error from the scatter of the rows about it."""
    ratio = float(numerators.mean() / denominators.mean())
    _, error = _mean(numerators - ratio * denominators)
    return ratio, error / float(denominators.mean())


def _interval(value: float, error: float, freedom: int) -> tuple[float, float]:
    half = student_factor(freedom) * error
    return value - half, value + half
