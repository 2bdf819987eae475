"""What every run of a study would take, without its data and before anything is done: for who rents the machines.

Hours are those of one H100 or H200 in bf16 autocast. A step takes as long as its arithmetic at the rate that models of
these families reach, and at least as long as the launches of its kernels, which small models wait for. Measuring has in
the last part of training the gradients of all units to take the norms of. The constants come from
``benchmarks/planned_runs.py`` on an H200 (torch 2.11; commit 17ef705, with measurements of more units than
the presets have now): steps of both families are told to within a third and whole runs to within a factor of two; peak
memory of Llamas comes up to a fifth too high, that of ViTs up to 45%. That script says what another machine takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spectral_reach.studies.cost import measurement_flops
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.training.run_config import RunConfig

GPU_FLOPS_PER_SECOND = 6.5e13
SECONDS_A_STEP = 0.010
SECONDS_A_LAYER = 0.003
MEASUREMENT_STEPS = 10.0
"""A measurement waits for as many kernels as so many training steps."""
SECONDS_A_NORM = 1e-9
"""Of one parameter in the gradient of one unit."""

_BYTES_OF_STATE = {"adamw": 16, "sgd": 12}
"""Of a parameter: weight, gradient and the optimiser's averages in float32."""
_VALUES_A_LAYER = 34
"""That a token leaves in a layer for the backward pass, in units of the width: inputs of linear maps and norms."""
_LOGITS = 3
"""Logits, their softmax and the gradient, in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedRun:
    """One run as it is planned.

    Attributes:
        name: of the run.
        parameters: of the model.
        tokens: of the whole training.
        flops: of training.
        measurement_flops: of measuring along the way.
        memory: bytes: weights, gradients, optimiser, and what a forward pass keeps for the backward pass.
        gpu_hours: on one such GPU.
    """

    name: str
    parameters: int
    tokens: int
    flops: int
    measurement_flops: int
    memory: float
    gpu_hours: float


def expected_run(run: RunConfig) -> ExpectedRun:
    """What one run would take."""
    steps = run.training.steps
    spent, measuring = run.spent(steps), measurement_flops(run)
    passes = steps * run.training.accumulation + MEASUREMENT_STEPS * len(run.measured_steps)
    waiting = passes * (SECONDS_A_STEP + SECONDS_A_LAYER * run.model.depth)
    late = sum(step >= run.measurement.late_start(steps) for step in run.measured_steps)
    norms = late * run.measurement.late_units * run.trained_parameters * SECONDS_A_NORM
    seconds = max(waiting, (spent["flops"] + measuring) / GPU_FLOPS_PER_SECOND) + norms
    return ExpectedRun(
        name=run.name,
        parameters=run.model.parameters,
        tokens=spent["tokens"],
        flops=spent["flops"],
        measurement_flops=measuring,
        memory=_memory(run),
        gpu_hours=seconds / 3600,
    )


def expected_runs(plan: StudyPlan) -> Iterator[ExpectedRun]:
    """Every run of the plan, in its order."""
    return map(expected_run, plan.runs)


def _memory(run: RunConfig) -> float:
    of_state = run.model.parameters * 4 + run.trained_parameters * (_BYTES_OF_STATE[run.training.optimiser] - 4)
    in_one_pass = [run.training.batch_size // run.training.accumulation]
    if run.measured_steps:
        in_one_pass += [run.measurement.units, run.measurement.late_units, run.measurement.heldout_units]
    tokens = max(in_one_pass) * run.model.tokens_per_unit
    sizes = run.model.dimensions
    logits = max(in_one_pass) * (sizes["context"] * sizes["vocabulary"] if "context" in sizes else sizes["classes"])
    a_value = 2 if run.training.precision == "bfloat16" else 4
    kept = tokens * run.model.depth * run.model.width * _VALUES_A_LAYER * a_value
    return float(of_state + kept + logits * _LOGITS * 4)


def as_cells(run: ExpectedRun) -> tuple[str, ...]:
    """One row of the table under ``COLUMNS``."""
    return (
        run.name,
        f"{run.parameters:,}",
        f"{run.tokens:.2e}",
        f"{run.flops:.1e}",
        f"{run.measurement_flops:.1e}",
        f"{run.memory / 2**30:.1f} GiB",
        f"{run.gpu_hours:.2f}",
    )


COLUMNS = ("run", "parameters", "tokens", "FLOPs", "of measuring", "memory", "GPU hours")
