"""The result of the benchmark on the terminal: one table, and a few lines on what it holds for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_COLUMNS = ("one probe", "seconds", "steps", "spread", "1% costs", "(a)/this", "(b)/this", "peak")
_TITLE_WIDTH, _WIDTH = 44, 120


def show(result: Mapping[str, Any], console: Console) -> None:
    """Print it; to a file as wide as it needs."""
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(_heading(result), highlight=False)
    table = Table(box=SIMPLE_HEAD)
    for column in _COLUMNS:
        first = column == _COLUMNS[0]
        table.add_column(column, justify="left" if first else "right", min_width=_TITLE_WIDTH if first else None)
    for row in result["ways"]:
        if row["missing"]:
            table.add_row(row["title"], row["missing"])
        else:
            table.add_row(*_cells(row))
    console.print(table)
    for line in _notes(result):
        console.print(line, highlight=False)


def _heading(result: Mapping[str, Any]) -> str:
    workload, machine, step = result["workload"], result["machine"], result["training_step"]
    model = workload["model"]
    noise = max(row["seconds_scatter"] or 0.0 for row in [step, *result["ways"]])
    training = f"trained {workload['steps']} steps on {'text' if workload['text'] else 'random tokens'}"
    return (
        f"Llama of {workload['parameters']:,} parameters, {training} to a loss of {result['loss']:.2f}; "
        f"{workload['units']} units x {model['context']} tokens x {model['vocabulary']} outputs.\n"
        f"torch {machine['torch']}, {machine['threads']} threads, {machine['processor']}, commit {machine['commit']}.\n"
        f"A training step takes {step['seconds']:.3f} s and {step['peak_bytes'] / 2**20:.0f} MiB; 'steps' and 'peak' "
        f"are in units of it.\nTimes are medians of "
        f"{result['rounds']} rounds, with quartiles at ±{noise:.0%} or less; spreads over {result['draws']} seeds are "
        f"known to {1 / (2 * (result['draws'] - 1)) ** 0.5:.0%}."
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    def cell(name: str, form: str, unit: str = "") -> str:
        return "–" if row[name] is None else f"{row[name]:{form}}{unit}"

    return [
        row["title"],
        cell("seconds", ".3f"),
        cell("training_steps", ".2f"),
        cell("spread", ".2%"),
        cell("cost_of_one_percent", ".3g", " s"),
        cell("cheaper_than_batch_fresh", ".3g", "x"),
        cell("cheaper_than_opacus", ".3g", "x"),
        cell("peak_of_training_step", ".2f"),
    ]


def _notes(result: Mapping[str, Any]) -> list[str]:
    growth, step = result["growth"], result["training_step"]["seconds"]
    units, tokens, vocabulary = growth["units"], growth["tokens"], growth["vocabulary"]
    pieces = ", ".join(f"{name} {seconds / step:.2f}" for name, seconds in result["pieces_seconds"].items())
    by_tokens = ", ".join(f"{p['probe'] / p['training_step']:.2f} at {p['tokens']}" for p in tokens["points"])
    sizes = [point["vocabulary"] for point in vocabulary["points"]]
    agreement = ", ".join(
        f"{name} {difference:.1g}" for name, difference in result["same_vector_largest_relative_difference"].items()
    )
    tracked = ", ".join(
        f"{tracked['added_training_steps']:+.2f} with units={tracked['units']}, noise_units={tracked['noise_units']} "
        f"(peak {tracked['peak_of_training_step']:.2f})"
        for tracked in result["tracked_steps"]
    )
    return [
        f"A training step that sr.Tracker measures in takes longer by {tracked}, in training steps.",
        f"From scratch, in training steps: {pieces}.",
        f"Seconds of a probe inside a step grow as units^{units['probe_exponent']:.2f} (the step's as "
        f"units^{units['training_step_exponent']:.2f}) and as tokens^{tokens['probe_exponent']:.2f} (the step's as "
        f"tokens^{tokens['training_step_exponent']:.2f}; in steps {by_tokens} tokens),",
        f"and by {vocabulary['probe_growth']:+.0%} from a vocabulary of {sizes[0]} to {sizes[-1]}.",
        f"For one vector, norms by unit against a pass of each unit alone, largest relative difference: {agreement}.",
    ]
