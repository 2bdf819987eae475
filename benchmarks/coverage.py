"""Are estimates unbiased, and do 95% intervals hold what they promise? Over 2,000 seeds on three small models.

Two kinds of error, each with the truth it is an error of:

- of this batch: ``chi_net`` from two or four probes on a fixed batch, against its exact trace;
- of the population: everything from one probe on a fresh batch for each seed, drawn with replacement from a finite
  data set, against the exact values of the whole data set, which is the population.

The plain interval is the estimate and 1.96 standard errors to either side; the other one is ``Decomposition.interval``.
Noise-corrected values also come from the products of a few units with all others (``noise_units``), and, as in a
training step, from the norms of all units with an error that eight of them tell.

Run it with ``python benchmarks/coverage.py``, or after the benchmark with ``estimators.py --coverage``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from ways import linearised
from workload import OUT, Batch

import spectral_reach as sr
from spectral_reach.estimators import EstimatorOptions, estimate_trace
from spectral_reach.measured.linearisation import Linearisation
from spectral_reach.studies.models.llama import LlamaConfig

POPULATION = 256
UNITS = 32
PART = 8
FEW = 8
NORMAL = 1.96

Estimate = tuple[float, float, float, float]
"""A value, its standard error and the two ends of its interval."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: how estimates lie about the truth.

    Attributes:
        model, what: measured.
        mean_error: of the estimates, in standard errors of their mean: within 3 if they are unbiased.
        stderr_to_scatter: root mean square of the standard errors over the standard deviation of the estimates.
        coverage: share of intervals of 1.96 standard errors that hold the truth.
        coverage_interval: share of ``Decomposition.interval`` that do.
        seeds: behind it.
    """

    model: str
    what: str
    mean_error: float
    stderr_to_scatter: float
    coverage: float
    coverage_interval: float
    seeds: int


class Capped(nn.Module):
    """A convolutional network whose outputs are soft-capped: no linear readout, so probes start at the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(2, 6), nn.GELU(), nn.AvgPool2d(2), nn.Flatten())
        self.readout = nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of (B, 1, 6, 6)."""
        return 3 * torch.tanh(self.readout(self.features(images)) / 3)


def models() -> Iterator[tuple[str, nn.Module, Batch]]:
    """Name, model and the whole data set of each."""
    random = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mlp = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
        capped = Capped()
    x = torch.randn(POPULATION, 6, generator=random)
    yield "MLP", mlp, (x, x[:, :4].argmax(1))
    images = torch.randn(POPULATION, 1, 6, 6, generator=random)
    yield "capped ConvNet", capped, (images, images.flatten(1)[:, :5].argmax(1))
    llama = LlamaConfig(vocabulary=24, context=6, width=16, depth=1, heads=1, mlp_width=24).build(seed=0)
    tokens = torch.randint(24, (POPULATION, 7), generator=random)
    tokens[:, 2::2] = tokens[:, 1:-1:2]  # something to learn: every other token comes twice
    yield "Llama", llama, (tokens[:, :-1], tokens[:, 1:])


def rows_of(name: str, model: nn.Module, population: Batch, seeds: int) -> Iterator[Row]:
    """All lines of one model."""
    inputs, targets = population
    batch = inputs[:UNITS], targets[:UNITS]
    exact = sr.decompose(model, batch, estimator="exact").chi_net
    linearisation = linearised(model, batch)
    for probes in (2, 4):
        shell = sr.decompose(model, batch, estimator="per_unit", probes=probes)
        estimates = [
            _of_batch(linearisation, shell, probes, seed) for seed in track(range(seeds), f"{name}, {probes} probes")
        ]
        yield _row(name, f"chi_net of this batch, {probes} probes", estimates, exact)

    whole = sr.decompose(model, population, estimator="batch")
    # Units do not see each other and have equally many samples, so that parts give the trace of the whole.
    parts = zip(inputs.split(PART), targets.split(PART), strict=True)
    chi_net = statistics.fmean(sr.decompose(model, part, estimator="exact").chi_net for part in parts)
    found: dict[str, list[Estimate]] = {}
    for seed in track(range(seeds), f"{name}, fresh batches"):
        chosen = torch.randint(POPULATION, (UNITS,), generator=torch.Generator().manual_seed(seed))
        fresh = inputs[chosen], targets[chosen]
        result = sr.decompose(model, fresh, estimator="per_unit", seed=seed)
        few = sr.decompose(model, fresh, estimator="per_unit", seed=seed, units=FEW, noise_units=FEW)
        shared = _in_step(model, fresh, seed)
        found.setdefault("chi_net", []).append(_estimate(result, "chi_net_population", result.chi_net))
        for field in ("delta_loss_unbiased", "chi_pos_unbiased"):
            for each, which in ((result, ""), (shared, ", in a step"), (few, f", {FEW} units")):
                found.setdefault(field + which, []).append(_estimate(each, field, getattr(each, field)))
    # Of the population itself nothing has to be corrected.
    truths = {
        "chi_net": chi_net,
        "delta_loss_unbiased": whole.delta_loss,
        "chi_pos_unbiased": whole.delta_loss / (whole.chi_loss * chi_net),
    }
    for field, estimates in found.items():
        yield _row(name, f"{field} of the population, 1 probe", estimates, truths[field.split(",")[0]])


def _in_step(model: nn.Module, batch: Batch, seed: int) -> sr.Decomposition:
    """With the passes of a training step."""
    inputs, targets = batch
    tracker = sr.Tracker(model, schedule=1, estimator="per_unit", seed=seed)
    outputs = model(inputs)
    logits = getattr(outputs, "logits", outputs)
    loss = nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
    tracker.measure(0, batch, outputs=outputs, step_loss=loss)
    loss.backward()
    model.zero_grad()
    (row,) = tracker.history
    return sr.Decomposition(**{name: value for name, value in row.items() if name != "step"})


def _of_batch(linearisation: Linearisation, shell: sr.Decomposition, probes: int, seed: int) -> Estimate:
    """Another estimate of chi_net of the batch that ``shell`` is a measurement of, with nothing else made again."""
    options = EstimatorOptions(probes=probes, units=None, seed=seed, memory_budget=2**28)
    estimate = estimate_trace("per_unit", linearisation, options)
    result = replace(shell, chi_net=estimate.chi_net, chi_net_stderr=estimate.stderr)
    return _estimate(result, "chi_net", result.chi_net)


def _estimate(result: sr.Decomposition, name: str, value: float) -> Estimate:
    return value, getattr(result, f"{name}_stderr"), *result.interval(name)


def _row(model: str, what: str, estimates: list[Estimate], truth: float) -> Row:
    errors = [value - truth for value, *_ in estimates]
    scatter = statistics.stdev(errors)
    return Row(
        model=model,
        what=what,
        mean_error=statistics.fmean(errors) / scatter * len(errors) ** 0.5,
        stderr_to_scatter=statistics.fmean(stderr**2 for _, stderr, *_ in estimates) ** 0.5 / scatter,
        coverage=statistics.fmean(abs(value - truth) <= NORMAL * stderr for value, stderr, *_ in estimates),
        coverage_interval=statistics.fmean(low <= truth <= high for *_, low, high in estimates),
        seeds=len(estimates),
    )


def show(rows: list[Row], console: Console) -> None:
    """The table."""
    spread = (0.95 * 0.05 / rows[0].seeds) ** 0.5
    table = Table(title=f"{rows[0].seeds:,} seeds; a coverage of 95% comes out within ±{2 * spread:.1%}")
    for column in ("model", "estimate", "mean error", "error bar / scatter", "coverage", "of .interval()"):
        table.add_column(column, justify="left" if column in ("model", "estimate") else "right")
    for row in rows:
        table.add_row(
            row.model,
            row.what,
            f"{row.mean_error:+.1f}",
            f"{row.stderr_to_scatter:.3f}",
            f"{row.coverage:.1%}",
            f"{row.coverage_interval:.1%}",
        )
    console.print(table)


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000, help="(default: 2000)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (default: benchmarks/out)")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be 2 or more")
    torch.set_num_threads(1)  # the models are tiny
    rows = [row for model in models() for row in rows_of(*model, arguments.seeds)]
    console = Console()
    show(rows, Console(width=max(console.width, 120)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "coverage.json"
    file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(f"Written to {file}")


if __name__ == "__main__":
    main()
