"""What a study will cost, for the line that is printed before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.training.run_config import RunConfig

# Measured on one core of a 2-core cloud machine (AVX-512 Xeon), float32, with models of 4 thousand to 1.7 million
# parameters. They turn FLOPs into minutes; nothing but the printed estimate depends on them.
_FLOPS_PER_SECOND = 5.5e10
_SECONDS_A_PASS = 0.0025
_SECONDS_A_TOKEN = 2.5e-6
_SECONDS_TO_START = 6.0
_GAIN_OF_THREADS = 0.8
"""Tensor operations of n threads take n to the power of minus this as long, about, at these sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Expected cost.

    Attributes:
        runs: how many.
        parameters: of the smallest and the largest model; None without runs.
        flops: training FLOPs of all runs, 6 x parameters x tokens.
        measurement_flops: FLOPs of all measurements along the way, counted the same way.
        tasks: how many.
        minutes: of wall-clock time of runs and tasks with the given number of workers, roughly.
    """

    runs: int
    parameters: tuple[int, int] | None
    flops: float
    measurement_flops: float
    tasks: int
    minutes: float

    def __str__(self) -> str:
        parts = []
        if self.parameters is not None:
            smallest, largest = (_short(count) for count in self.parameters)
            runs = "1 run" if self.runs == 1 else f"{self.runs} runs"
            sizes = smallest if smallest == largest else f"{smallest} to {largest}"
            parts.append(
                f"{runs} of {sizes} parameters: {self.flops:.1e} FLOPs of training and {self.measurement_flops:.1e} of "
                "measuring"
            )
        if self.tasks:
            parts.append("1 task" if self.tasks == 1 else f"{self.tasks} tasks")
        return f"{', then '.join(parts)}, about {_duration(self.minutes)}"


def expected_cost(plan: StudyPlan, workers: int) -> Cost:
    """The cost of the whole plan, finished or not: runs on ``workers`` processes, tasks on as many threads."""
    runs = plan.runs
    seconds = sorted((_seconds(run) for run in runs), reverse=True)
    busy = [0.0] * max(1, min(workers, len(runs)))
    for each in seconds:
        busy[busy.index(min(busy))] += each
    sizes = [run.model.parameters for run in runs]
    of_tasks = sum(task.settings.seconds for task in plan.tasks) / workers**_GAIN_OF_THREADS
    return Cost(
        runs=len(runs),
        parameters=(min(sizes), max(sizes)) if sizes else None,
        flops=float(sum(run.spent(run.training.steps)["flops"] for run in runs)),
        measurement_flops=float(sum(measurement_flops(run) for run in runs)),
        tasks=len(plan.tasks),
        minutes=(max(busy) + of_tasks) / 60,
    )


def _units(run: RunConfig) -> int:
    """Units measured in the whole run."""
    measurement, steps = run.measurement, run.training.steps
    return sum(measurement.units_at(step, steps) + measurement.heldout_units for step in run.measured_steps)


def _measurements(run: RunConfig) -> int:
    return len(run.measured_steps)


def measurement_flops(run: RunConfig) -> int:
    """FLOPs of all measurements of a run, 6 x parameters x tokens of every pass."""
    # A pass over all units for the gradients of each, and one for each probe over those that are probed.
    probed = run.measurement.units_of_trace * run.measurement.probes * _measurements(run)
    return 6 * (_units(run) + probed) * run.model.tokens_per_unit * run.model.parameters


def _seconds(run: RunConfig) -> float:
    steps, measured = run.training.steps, _units(run)
    flops = run.spent(steps)["flops"] + measurement_flops(run)
    passes = steps * 3 + 12 * _measurements(run)
    tokens = run.spent(steps)["tokens"] + 3 * measured * run.model.tokens_per_unit
    return _SECONDS_TO_START + flops / _FLOPS_PER_SECOND + passes * _SECONDS_A_PASS + tokens * _SECONDS_A_TOKEN


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 999_500 else f"{round(count / 1e3)}k"


def _duration(minutes: float) -> str:
    return f"{max(1, round(minutes))} min" if minutes < 100 else f"{minutes / 60:.0f} h"
