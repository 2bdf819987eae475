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


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Expected cost.

    Attributes:
        runs: how many.
        parameters: of the smallest and the largest model.
        flops: training FLOPs of all runs, 6 x parameters x tokens.
        measurement_flops: FLOPs of all measurements, counted the same way.
        minutes: of wall-clock time with the given number of workers, roughly.
    """

    runs: int
    parameters: tuple[int, int]
    flops: float
    measurement_flops: float
    minutes: float

    def __str__(self) -> str:
        smallest, largest = (_short(count) for count in self.parameters)
        return (
            f"{self.runs} runs of {smallest} to {largest} parameters: {self.flops:.1e} FLOPs of training and "
            f"{self.measurement_flops:.1e} of measuring, about {max(1, round(self.minutes))} min"
        )


def expected_cost(plan: StudyPlan, workers: int) -> Cost:
    """The cost of the whole plan on ``workers`` processes, finished runs included."""
    runs = plan.runs
    seconds = sorted((_seconds(run) for run in runs), reverse=True)
    busy = [0.0] * min(workers, len(runs))
    for each in seconds:
        busy[busy.index(min(busy))] += each
    sizes = [run.model.parameters for run in runs]
    return Cost(
        runs=len(runs),
        parameters=(min(sizes), max(sizes)),
        flops=float(sum(run.spent(run.training.steps)["flops"] for run in runs)),
        measurement_flops=float(sum(_measurement_flops(run) for run in runs)),
        minutes=max(busy) / 60,
    )


def _units(run: RunConfig) -> int:
    """Sequences measured in the whole run."""
    measurement, steps = run.measurement, run.training.steps
    return sum(measurement.units_at(step, steps) for step in measurement.measured_steps(steps))


def _measurements(run: RunConfig) -> int:
    return len(run.measurement.measured_steps(run.training.steps))


def _measurement_flops(run: RunConfig) -> int:
    # A pass over all units for the gradients of each, and one for each probe over those that are probed.
    probed = run.measurement.units_of_trace * run.measurement.probes * _measurements(run)
    return 6 * (_units(run) + probed) * run.model.context * run.model.parameters


def _seconds(run: RunConfig) -> float:
    steps, measured = run.training.steps, _units(run)
    flops = run.spent(steps)["flops"] + _measurement_flops(run)
    passes = steps * 3 + 12 * _measurements(run)
    tokens = run.spent(steps)["tokens"] + 3 * measured * run.model.context
    return _SECONDS_TO_START + flops / _FLOPS_PER_SECOND + passes * _SECONDS_A_PASS + tokens * _SECONDS_A_TOKEN


def _short(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count >= 999_500 else f"{round(count / 1e3)}k"
