"""What the runs of a study take on this machine: steps and measurements of every size, on random data of its shape.

    python benchmarks/planned_runs.py scaling-text --preset paper --out runs.json

For each size of the plan: seconds of a training step and of a measurement of each kind that the run takes, peak memory,
and what that makes for the whole run, beside what ``--dry-run`` expects. Needs no data: tokens and pixels are random,
which no time depends on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

import spectral_reach as sr
from spectral_reach.studies import registry
from spectral_reach.studies.data.dataset import Batch
from spectral_reach.studies.dry_run import expected_run
from spectral_reach.studies.training.config import TrainingConfig
from spectral_reach.studies.training.device import device_of, precision_of
from spectral_reach.studies.training.optimiser import optimiser_of
from spectral_reach.studies.training.run_config import RunConfig
from spectral_reach.studies.training.step import update


def random_batch(run: RunConfig, units: int, device: torch.device) -> Batch:
    """Units of the shape that the run's model reads."""
    shape = run.model.dimensions
    if "context" in shape:
        tokens = torch.randint(shape["vocabulary"], (units, shape["context"] + 1), device=device)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    pixels = torch.randn(units, shape["channels"], shape["image_size"], shape["image_size"], device=device)
    return pixels, torch.randint(shape["classes"], (units,), device=device)


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median of ``repeats`` after two that do not count."""
    times = []
    for _ in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def measure(run: RunConfig, training: TrainingConfig, repeats: int) -> dict[str, float | int | str]:
    """One size: its training step, its measurements, its memory."""
    device = device_of(training)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = run.model.build(0).to(device)
    optimiser = optimiser_of(model, training, run.model.rate_factors(model, training.optimiser))
    batch = random_batch(run, training.batch_size, device)
    step = seconds_of(lambda: update(model, optimiser, batch, training.warmup_steps, training), device, repeats)
    row: dict[str, float | int | str] = {"run": run.name, "parameters": run.model.parameters, "step_seconds": step}
    row["flops_per_second"] = run.spent(1)["flops"] / step
    if device.type == "cuda":
        row["step_peak_bytes"] = torch.cuda.max_memory_allocated(device)
    m, steps = run.measurement, training.steps
    total = step * steps
    for kind, units, noise, on_record in (
        ("early", m.units, m.units_of_noise(0, steps), lambda s: s < m.late_start(steps)),
        ("late", m.late_units, m.units_of_noise(steps - 1, steps), lambda s: s >= m.late_start(steps)),
        ("heldout", m.heldout_units, m.units_of_noise(0, steps), lambda s: True),
    ):
        count = sum(map(on_record, m.measured_steps(steps)))
        if not units or not count:
            continue
        measured = random_batch(run, units, device)
        probed = min(m.probed_units, units)

        def take(
            measured: Batch = measured, probed: int = probed, noise: int | None = noise, units: int = units
        ) -> None:
            with precision_of(training, device):
                wanted = None if noise is None else min(noise, units)
                sr.decompose(model, measured, estimator="per_unit", probes=1, units=probed, noise_units=wanted)

        each = seconds_of(take, device, max(2, repeats // 4))
        row[f"{kind}_seconds"] = each
        total += each * count
    if device.type == "cuda":
        row["peak_bytes"] = torch.cuda.max_memory_allocated(device)
    expected = expected_run(run)
    row |= {"hours": total / 3600, "expected_hours": expected.gpu_hours, "expected_bytes": expected.memory}
    return row


def main() -> None:
    """Every size of the plans, a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.studies:
        seen = set()
        for run in registry.find(name).outline({"preset": arguments.preset}).runs:
            key = (run.family, run.model)
            if run.training.may_diverge or key in seen:
                continue
            seen.add(key)
            row = {"study": name, **measure(run, run.training, arguments.repeats)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
