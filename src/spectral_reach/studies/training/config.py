"""How a run trains and when it measures: frozen settings, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spectral_reach.estimators import check_name
from spectral_reach.studies.config import check, check_types, check_whole_numbers
from spectral_reach.tracking.schedule import log_windows

SCHEDULES = ("constant", "linear", "cosine")
OPTIMISERS = ("adamw", "sgd")
PRECISIONS = ("float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
TRAINED = ("all", "readout")

_CHOICES = {
    "schedule": SCHEDULES,
    "optimiser": OPTIMISERS,
    "precision": PRECISIONS,
    "device": DEVICES,
    "trained": TRAINED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Stochastic gradient descent on batches of units (sequences, images).

    Attributes:
        steps: updates to make.
        batch_size: units a step.
        accumulation: parts that the batch is put through the model in, one after another; their mean gradient is the
            batch's, and only the memory depends on it. A measurement makes passes of its own then.
        optimiser: ``adamw``, or ``sgd`` with momentum.
        learning_rate: its peak, reached after the warm-up.
        warmup_steps: updates over which the rate rises linearly from 0.
        schedule: after the warm-up ``constant``, or ``linear`` or ``cosine`` down to ``final_fraction`` of the peak.
        final_fraction: the rate at the end, as a fraction of the peak; not for ``constant``.
        weight_decay: decoupled for AdamW, on matrices only (norms keep their scale).
        beta1: decay of the mean of gradients; for AdamW only.
        beta2: decay of the mean of squared gradients; for AdamW only.
        momentum: for SGD only.
        clip_norm: gradients with a larger norm are scaled down to it.
        precision: of the forward pass: ``float32``, or ``bfloat16`` under autocast with weights in float32.
        device: ``auto`` is a CUDA device where there is one.
        may_diverge: whether a loss that is no longer finite ends the run instead of failing it, as in a sweep of rates.
            Such a run is not measured: a model that has diverged has no gradient to take apart.
        trained: ``all``, or the ``readout`` alone on a backbone that stays as it is (a linear probe).
        heldout_every: steps between evaluations on held-out data (always at the first and after the last step).
        heldout_units: units of an evaluation, the same every time; all of them where there are fewer.
        checkpoint_every: steps between checkpoints, what a kill can cost.
        snapshots: updates after which the weights are kept for good, 0 and ``steps`` among those allowed.
        seed: of the weights, the order of the data and the probes.
    """

    steps: int
    batch_size: int
    accumulation: int = 1
    optimiser: str = "adamw"
    learning_rate: float
    warmup_steps: int
    schedule: str = "cosine"
    final_fraction: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    momentum: float = 0.9
    clip_norm: float = 1.0
    precision: str = "float32"
    device: str = "auto"
    may_diverge: bool = False
    trained: str = "all"
    heldout_every: int
    heldout_units: int
    checkpoint_every: int
    snapshots: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "batch_size", "accumulation", "heldout_every", "heldout_units", "checkpoint_every"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "warmup_steps", self.warmup_steps >= 0, "at least 0")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        check(self, "learning_rate", 0 < self.learning_rate < math.inf, "a positive number")
        check(self, "warmup_steps", self.warmup_steps < self.steps, f"fewer than the {self.steps} steps")
        check(self, "accumulation", self.batch_size % self.accumulation == 0, f"a divisor of {self.batch_size} units")
        for name, known in _CHOICES.items():
            check(self, name, getattr(self, name) in known, " or ".join(known))
        check(self, "final_fraction", 0 <= self.final_fraction <= 1, "0 to 1")
        check(self, "weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0")
        for name in ("beta1", "beta2", "momentum"):
            check(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        check(self, "clip_norm", 0 < self.clip_norm < math.inf, "a positive number, a large one not to clip")
        check_whole_numbers(self, "snapshots")
        wanted = f"different steps from 0 to {self.steps}"
        check(self, "snapshots", all(0 <= step <= self.steps for step in self.snapshots), wanted)
        check(self, "snapshots", len(set(self.snapshots)) == len(self.snapshots), wanted)

    def rate(self, step: int) -> float:
        """The learning rate of update ``step`` (from 0)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / (self.warmup_steps + 1)
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        share = 1 - progress if self.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
        fraction = self.final_fraction + (1 - self.final_fraction) * share
        return self.learning_rate * fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementConfig:
    """When a run is measured, and on how many units (sequences, images).

    Measurements come in windows of consecutive steps, evenly spaced in log(step), and, over the last part of
    training, where the gradient has shrunk below its noise, also evenly spaced in steps and on more units: the
    error of the noise-corrected gradient falls as 1 / units.

    Attributes:
        per_decade: windows per decade of steps.
        width: consecutive steps of a window.
        units: of a measurement. Equal to the batch size: the training batch itself, else fresh ones.
        late_fraction: the last part of training, as a fraction of the steps.
        late_measurements: additional measurements in that part.
        late_units: units of every measurement in that part.
        heldout_units: units of the measurement on held-out data that goes with each one on training data; 0 for none.
        estimator: of chi_net, as in ``sr.decompose``.
        probes: random probes of that estimator.
        probed_units: how many of a measurement's units the estimate of chi_net uses, all where there are fewer. It
            varies by a few percent from unit to unit, far less than what the other numbers are made of.
        noise_units: of how many units the loss gradients are multiplied with those of all others, for the
            noise-corrected values before the last part, where the gradient stands out of its noise; all where there
            are fewer. In the last part the values come from all, and their errors as ``sr.Tracker`` has them.
    """

    per_decade: int = 3
    width: int = 2
    units: int
    late_fraction: float = 0.1
    late_measurements: int
    late_units: int
    heldout_units: int = 0
    estimator: str = "per_unit"
    probes: int = 1
    probed_units: int = 4
    noise_units: int = 4

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("per_decade", "width", "probes"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("units", "late_units"):
            check(self, name, getattr(self, name) >= 2, "at least 2, for noise is what differs between them")
        check(self, "heldout_units", self.heldout_units == 0 or self.heldout_units >= 2, "0, or at least 2")
        check(self, "probed_units", self.probed_units >= 2, "at least 2, for an error bar")
        check(self, "noise_units", self.noise_units >= 2, "at least 2, for an error bar")
        check_name(self.estimator)
        check(self, "late_measurements", self.late_measurements >= 0, "at least 0")
        check(self, "late_fraction", 0 <= self.late_fraction < 1, "at least 0 and below 1")

    @property
    def units_of_trace(self) -> int:
        """Units that every estimate of chi_net uses."""
        return min(self.probed_units, self.units, self.late_units)

    def units_of_noise(self, step: int, steps: int) -> int | None:
        """``noise_units`` of the measurement at ``step`` of so many; None for what ``sr.Tracker`` does by itself."""
        return None if step >= self.late_start(steps) else min(self.noise_units, self.units_at(step, steps))

    def late_start(self, steps: int) -> int:
        """The first step of the last part of training."""
        return math.ceil(steps * (1 - self.late_fraction))

    def measured_steps(self, steps: int) -> tuple[int, ...]:
        """When a run of so many steps is measured, sorted."""
        start = self.late_start(steps)
        count = min(self.late_measurements, steps - start)
        late = (start + i * (steps - start) // count for i in range(count))
        return tuple(sorted({*late, *log_windows(steps, self.per_decade, self.width)}))

    def units_at(self, step: int, steps: int) -> int:
        """Units of a measurement at ``step`` of so many."""
        return self.late_units if step >= self.late_start(steps) else self.units
