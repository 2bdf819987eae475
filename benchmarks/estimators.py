"""What an estimate of chi_net costs on this machine: every way to make it and a training step, side by side in one run.

For each way:

- seconds: one probe with all its passes, the median over rounds in which everything takes its turn; in training steps,
  the median of the ratios within a round;
- spread: the relative standard deviation of one probe on this fixed batch, over seeds;
- cost of 1%: seconds x (spread / 1%)^2, what a relative standard error of 1% takes;
- peak memory beyond the model and the batch, in a process of its own.

Run it with ``make bench``. The preset ``reference`` trains a Llama of 6.8 million parameters for 200 steps first and
keeps its weights; ``--preset toy`` takes seconds and compares everything with the exact trace. The table, the JSON and
the plot end up in ``benchmarks/out``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import parts
import torch
import tracked_step
from opacus_norms import not_installed, unit_norms_by_opacus
from peak_memory import peaks_bytes
from plot import draw_costs
from rich.console import Console
from scaling import growth
from table import show
from timing import Times, interleaved, median_ratio
from torch import nn
from ways import EXACT, Draw, Way, all_ways, linearised, signs, unit_norms_one_by_one
from workload import OUT, PRESETS, TRAINING_STEP, Batch, Preset, step_in_place

import spectral_reach as sr
from spectral_reach.jacobian.unit_backward import UnitBackward

SAME = 1e-4
"""Relative difference that float32 leaves between ways that compute the same number."""


def compare(preset: str, draws: int, rounds: int, say: Console) -> dict[str, Any]:
    """Everything that is shown and written."""
    chosen = PRESETS[preset]
    workload = chosen.workload
    say.print(f"Model and batch ({preset}) …")
    model, batch = workload.build()
    ways = all_ways(workload.units)
    here = [way for way in ways if not way.missing]
    agreement = _agreement(model, batch)

    say.print("Times …")
    drawing = {way.name: way.prepare(copy.deepcopy(model), batch) for way in here}
    step = step_in_place(copy.deepcopy(model), batch)
    works = {
        TRAINING_STEP: lambda _: step(),
        **drawing,
        **parts.works(copy.deepcopy(model), batch),
        **tracked_step.works(model, batch),
    }
    times, results = interleaved(works, rounds)

    say.print("Spread of one probe …")
    values = {way.name: _draws(drawing[way.name], draws) for way in here if not way.same_as}
    for way in here:
        values.setdefault(way.name, values.get(way.same_as, []))
    _check_same(here, results, values)
    exact = EXACT.prepare(copy.deepcopy(model), batch) if chosen.exact else None
    if exact is not None:
        exact_times, exact_results = interleaved({EXACT.name: exact}, 1)
        truth = exact_results[EXACT.name][0]
    else:
        truth = None

    say.print("Peak memory …")
    peaks = peaks_bytes(preset, [TRAINING_STEP, *(way.name for way in here), *tracked_step.names(batch)])

    rows = [_row(way, times, values[way.name], peaks, truth) if not way.missing else _missing(way) for way in ways]
    if truth is not None:
        rows.append(_exact_row(exact_times[EXACT.name], times[TRAINING_STEP], truth))
    _add_ratios(rows)
    say.print("Growth with units, tokens and vocabulary …")
    return {
        "preset": preset,
        "workload": {**asdict(workload), "parameters": workload.model.parameters},
        "machine": _machine(),
        "rounds": rounds,
        "draws": draws,
        "loss": linearised(model, batch).loss,
        "training_step": {
            "seconds": times[TRAINING_STEP].median,
            "seconds_scatter": times[TRAINING_STEP].scatter,
            "seconds_of_rounds": times[TRAINING_STEP].rounds,
            "peak_bytes": peaks[TRAINING_STEP],
        },
        "ways": rows,
        "same_vector_largest_relative_difference": agreement,
        "tracked_steps": tracked_step.added(times, peaks),
        "pieces_seconds": parts.named(times),
        "growth": growth(chosen, min(rounds, 5)),
    }


def _draws(draw: Draw, count: int) -> list[float]:
    return [draw(seed) for seed in range(count)]


def _agreement(model: nn.Module, batch: Batch) -> dict[str, float]:
    """||J_i^T v||^2 for one v shared by all units, against an ordinary pass of each unit alone."""
    inputs, targets = batch
    outputs = model.get_output_embeddings().out_features
    v = signs(torch.Size((targets.shape[1], outputs)), seed=0)
    plain = unit_norms_one_by_one(model, inputs, v)
    found = {"per_unit": UnitBackward.of(linearised(model, batch)).squared_norms(v.repeat(len(inputs), 1))}
    if not not_installed():
        found["opacus"] = unit_norms_by_opacus(copy.deepcopy(model))(inputs, v)
    differences = {name: float((norms / plain - 1).abs().max()) for name, norms in found.items()}
    for name, difference in differences.items():
        if difference > SAME:
            raise SystemExit(f"{name}: a unit's norm differs from that of an ordinary pass by {difference:.2g}")
    return differences


def _check_same(ways: list[Way], results: Mapping[str, list[float]], values: Mapping[str, list[float]]) -> None:
    """Every way gave in round r the number that its spread is taken from for seed r."""
    for way in ways:
        for got, expected in zip(results[way.name], values[way.name], strict=False):
            if not math.isclose(got, expected, rel_tol=SAME):
                raise SystemExit(f"{way.name} gave {got}, and {way.same_as or way.name} {expected} for the same seed")


def _row(
    way: Way, times: Mapping[str, Times], values: list[float], peaks: Mapping[str, int], truth: float | None
) -> dict[str, Any]:
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    stderr = deviation / math.sqrt(len(values))
    seconds, spread = times[way.name].median, deviation / mean
    return {
        "way": way.name,
        "title": way.title,
        "missing": "",
        "seconds": seconds,
        "seconds_scatter": times[way.name].scatter,
        "seconds_of_rounds": times[way.name].rounds,
        "training_steps": median_ratio(times[way.name], times[TRAINING_STEP]),
        "spread": spread,
        "spread_from": way.same_as or way.name,
        "cost_of_one_percent": seconds * (spread / 0.01) ** 2,
        # Of a standard deviation from n nearly normal draws 1 / sqrt(2 (n - 1)), and the cost has its square.
        "cost_relative_stderr": 2 / math.sqrt(2 * (len(values) - 1)),
        "peak_bytes": peaks[way.name],
        "peak_of_training_step": peaks[way.name] / peaks[TRAINING_STEP],
        "chi_net": mean,
        "chi_net_stderr": stderr,
        "deviation_from_exact_in_stderr": None if truth is None else (mean - truth) / stderr,
    }


def _exact_row(times: Times, step: Times, truth: float) -> dict[str, Any]:
    return {
        **_missing(EXACT),
        "missing": "",
        "seconds": times.median,
        "seconds_of_rounds": times.rounds,
        "training_steps": times.median / step.median,
        "spread": 0.0,
        "cost_of_one_percent": times.median,
        "chi_net": truth,
        "chi_net_stderr": 0.0,
    }


def _missing(way: Way) -> dict[str, Any]:
    nothing = (
        "seconds",
        "seconds_scatter",
        "seconds_of_rounds",
        "training_steps",
        "spread",
        "spread_from",
        "cost_of_one_percent",
        "cost_relative_stderr",
        "peak_bytes",
        "peak_of_training_step",
        "chi_net",
        "chi_net_stderr",
        "deviation_from_exact_in_stderr",
    )
    return {"way": way.name, "title": way.title, "missing": way.missing, **dict.fromkeys(nothing)}


def _add_ratios(rows: list[dict[str, Any]]) -> None:
    """How many times cheaper 1% is than by (a) and by (b)."""
    for baseline in ("batch_fresh", "opacus"):
        theirs = next(row["cost_of_one_percent"] for row in rows if row["way"] == baseline)
        for row in rows:
            known = theirs is not None and row["cost_of_one_percent"] is not None
            row[f"cheaper_than_{baseline}"] = theirs / row["cost_of_one_percent"] if known else None


def _machine() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "spectral_reach": getattr(sr, "__version__", ""),
        "commit": _commit(),
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def main() -> None:
    """Read the arguments, compare, show, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="reference")
    parser.add_argument("--threads", type=int, default=2, help="that torch computes on (default: 2)")
    parser.add_argument("--rounds", type=int, help="repeats of every time (default: the preset's)")
    parser.add_argument("--draws", type=int, help="seeds behind the spread of one probe (default: the preset's)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (default: benchmarks/out)")
    parser.add_argument(
        "--coverage", action="store_true", help="also check error bars over 2,000 seeds: benchmarks/coverage.py"
    )
    arguments = parser.parse_args()
    preset: Preset = PRESETS[arguments.preset]
    draws = preset.draws if arguments.draws is None else arguments.draws
    rounds = preset.rounds if arguments.rounds is None else arguments.rounds
    if draws < 2:
        parser.error("--draws must be 2 or more: the spread of one probe is taken over them")
    if rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be 1 or more")
    torch.set_num_threads(arguments.threads)

    result = compare(arguments.preset, draws, rounds, Console(stderr=True))
    show(result, Console())
    arguments.out.mkdir(parents=True, exist_ok=True)
    written = arguments.out / "estimators.json"
    written.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"Written to {written} and {draw_costs(result, arguments.out / 'estimators')}")
    if arguments.coverage:
        script = Path(__file__).with_name("coverage.py")
        subprocess.run([sys.executable, script, "--out", arguments.out], check=True)


if __name__ == "__main__":
    main()
