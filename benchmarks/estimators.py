"""What an estimate of chi_net costs on this machine: every estimator and a training step, side by side in one run.

The model is a small Llama with random weights on random tokens; cost depends on shapes, not on what was learnt, and
the spread of a probe hardly. For each estimator:

- seconds: one ``sr.decompose`` with it, best of several, and what of that a single probe takes;
- spread: relative standard deviation of one probe on this fixed batch (none for an exact trace);
- cost of 1%: seconds until the relative standard error is 1%, seconds x (spread / 1%)^2.

Run it with ``make bench``, or with other shapes: ``python benchmarks/estimators.py --width 96 --sequences 16``.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import spectral_reach as sr
from spectral_reach.studies.models.llama import llama

REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; seconds, and the spread as a fraction."""

    way: str
    probes: int
    seconds: float
    seconds_per_probe: float | None
    spread: float
    cost_of_one_percent: float
    training_steps: float


def best_seconds(work: Callable[[], object]) -> float:
    """The least of several: whatever else the machine does only ever adds time."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def training_step_seconds(model: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Forward, backward and AdamW, on the batch that is measured."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)

    def step() -> None:
        optimiser.zero_grad()
        logits = model(inputs).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        optimiser.step()

    step()
    return best_seconds(step)


def compare(arguments: argparse.Namespace) -> dict[str, object]:
    """Everything that is shown and written."""
    config = llama(arguments.width, vocabulary=arguments.vocabulary, context=arguments.context)
    model = config.build(seed=0)
    tokens = torch.randint(
        config.vocabulary,
        (arguments.sequences, config.context + 1),
        generator=torch.Generator().manual_seed(0),
    )
    batch = (tokens[:, :-1], tokens[:, 1:])
    step = training_step_seconds(model, *batch)
    model.zero_grad()

    def measure(estimator: str, probes: int = 1) -> sr.Decomposition:
        return sr.decompose(model, batch, estimator=estimator, probes=probes)

    one = best_seconds(lambda: measure("batch", 1))
    many = best_seconds(lambda: measure("batch", arguments.probes))
    per_probe = (many - one) / (arguments.probes - 1)
    sampled = measure("batch", arguments.probes)
    spread = sampled.chi_net_stderr / sampled.chi_net * math.sqrt(arguments.probes)
    cost = per_probe * (spread / 0.01) ** 2

    start = time.perf_counter()
    truth = measure("exact")
    exact = time.perf_counter() - start

    rows = [
        Row(
            way="exact",
            probes=0,
            seconds=exact,
            seconds_per_probe=None,
            spread=0.0,
            cost_of_one_percent=exact,
            training_steps=exact / step,
        ),
        Row(
            way="batch",
            probes=arguments.probes,
            seconds=many,
            seconds_per_probe=per_probe,
            spread=spread,
            cost_of_one_percent=cost,
            training_steps=cost / step,
        ),
    ]
    return {
        "model": {**asdict(config), "parameters": config.parameters},
        "batch": {"sequences": arguments.sequences, "output_directions": tokens[:, 1:].numel() * config.vocabulary},
        "machine": {"torch": torch.__version__, "threads": torch.get_num_threads(), "processor": platform.machine()},
        "training_step_seconds": step,
        "decompose_with_one_probe_seconds": one,
        "deviation_from_exact_in_stderr": (sampled.chi_net - truth.chi_net) / sampled.chi_net_stderr,
        "rows": [asdict(row) for row in rows],
    }


def show(result: dict, console: Console) -> None:
    """The table, with the shapes and the machine that it holds for."""
    model, batch, machine = result["model"], result["batch"], result["machine"]
    console.print(
        f"Llama with {model['parameters']:,} parameters, {batch['sequences']} x {model['context']} tokens, "
        f"{batch['output_directions']:,} output directions; torch {machine['torch']}, {machine['threads']} threads. "
        f"A training step takes {result['training_step_seconds']:.3f} s, one decompose with one probe "
        f"{result['decompose_with_one_probe_seconds']:.3f} s."
    )
    table = Table(title="chi_net on this batch")
    for column in ("estimator", "probes", "seconds", "per probe", "spread", "1% costs", "training steps"):
        table.add_column(column, justify="left" if column == "estimator" else "right")
    for row in result["rows"]:
        a_probe = row["seconds_per_probe"]
        table.add_row(
            row["way"],
            str(row["probes"]),
            f"{row['seconds']:.2f}",
            "–" if a_probe is None else f"{a_probe:.4f}",
            f"{row['spread']:.2%}",
            f"{row['cost_of_one_percent']:.2f} s",
            f"{row['training_steps']:.0f}",
        )
    console.print(table)
    console.print(
        f"The batch estimate lies {result['deviation_from_exact_in_stderr']:+.1f} of its standard errors from the "
        "exact trace."
    )


def main() -> None:
    """Read the shapes, compare, show and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=32, help="of the Llama (default: 32)")
    parser.add_argument("--vocabulary", type=int, default=64)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--probes", type=int, default=64, help="behind the spread of one probe (default: 64)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "estimators.json")
    arguments = parser.parse_args()
    if arguments.probes < 2:
        parser.error("--probes must be 2 or more: the spread of one probe is taken over them")
    result = compare(arguments)
    show(result, Console())
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"Written to {arguments.out}")


if __name__ == "__main__":
    main()
