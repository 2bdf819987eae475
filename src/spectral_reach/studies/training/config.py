"""How a run trains and when it measures: frozen settings, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spectral_reach.estimators import check_name
from spectral_reach.studies.config import check, check_types, check_whole_numbers
from spectral_reach.tracking.schedule import log_windows

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """AdamW on batches of sequences.

    Attributes:
        steps: updates to make.
        batch_size: sequences a step.
        learning_rate: its peak, reached after the warm-up.
        warmup_steps: updates over which the rate rises linearly from 0.
        schedule: after the warm-up ``constant``, or ``cosine`` down to ``final_fraction`` of the peak.
        final_fraction: the rate at the end, as a fraction of the peak; for ``cosine`` only.
        weight_decay: decoupled, on matrices only (norms keep their scale).
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.
        clip_norm: gradients with a larger norm are scaled down to it.
        heldout_every: steps between evaluations on held-out data (always at the first and after the last step).
        heldout_sequences: sequences of an evaluation, the same every time; all of them where there are fewer.
        checkpoint_every: steps between checkpoints, what a kill can cost.
        snapshots: updates after which the weights are kept for good, 0 and ``steps`` among those allowed.
        seed: of the weights, the order of the data and the probes.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    schedule: str = "cosine"
    final_fraction: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float = 1.0
    heldout_every: int
    heldout_sequences: int
    checkpoint_every: int
    snapshots: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "batch_size", "heldout_every", "heldout_sequences", "checkpoint_every"):
            check(self, name, getattr(self, name) >= 1, "at least 1")
        check(self, "warmup_steps", self.warmup_steps >= 0, "at least 0")
        check(self, "seed", 0 <= self.seed < 2**63, "at least 0 and below 2**63")
        check(self, "learning_rate", 0 < self.learning_rate < math.inf, "a positive number")
        check(self, "warmup_steps", self.warmup_steps < self.steps, f"fewer than the {self.steps} steps")
        check(self, "schedule", self.schedule in SCHEDULES, " or ".join(SCHEDULES))
        check(self, "final_fraction", 0 <= self.final_fraction <= 1, "0 to 1")
        check(self, "weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0")
        for name in ("beta1", "beta2"):
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
        fraction = self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate * fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurementConfig:
    """When a run is measured, and on how many sequences.

    Measurements come in windows of consecutive steps, evenly spaced in log(step), and, over the last part of
    training, where the gradient has shrunk below its noise, also evenly spaced in steps and on more sequences: the
    error of the noise-corrected gradient falls as 1 / sequences.

    Attributes:
        per_decade: windows per decade of steps.
        width: consecutive steps of a window.
        units: sequences of a measurement. Equal to the batch size: the training batch itself, else fresh ones.
        late_fraction: the last part of training, as a fraction of the steps.
        late_measurements: additional measurements in that part.
        late_units: sequences of every measurement in that part.
        estimator: of chi_net, as in ``sr.decompose``.
        probes: random probes of that estimator.
        probed_units: how many of a measurement's sequences the estimate of chi_net uses, all where there are fewer. It
            varies by a few percent from sequence to sequence, far less than what the other numbers are made of.
        noise_units: of how many sequences the loss gradients are multiplied with those of all others, for the
            noise-corrected values before the last part, where the gradient stands out of its noise; all where there
            are fewer. In the last part the values come from all, and their errors as ``sr.Tracker`` has them.
    """

    per_decade: int = 3
    width: int = 2
    units: int
    late_fraction: float = 0.1
    late_measurements: int
    late_units: int
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
        check(self, "probed_units", self.probed_units >= 2, "at least 2, for an error bar")
        check(self, "noise_units", self.noise_units >= 2, "at least 2, for an error bar")
        check_name(self.estimator)
        check(self, "late_measurements", self.late_measurements >= 0, "at least 0")
        check(self, "late_fraction", 0 <= self.late_fraction < 1, "at least 0 and below 1")

    @property
    def units_of_trace(self) -> int:
        """Sequences that every estimate of chi_net uses."""
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
        """Sequences of a measurement at ``step`` of so many."""
        return self.late_units if step >= self.late_start(steps) else self.units
