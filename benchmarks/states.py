"""The spread of one probe in differently trained states of the reference model: it depends on what was learnt.

    python benchmarks/states.py

For each learning rate: the loss after the training, the share of chi_net that the readout has, which is counted
exactly, the spread of one probe for ``per_unit`` and for a vector over the whole batch, and how many times more draws
the latter needs for the same error. No times are taken.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from ways import all_ways, linearised
from workload import OUT, PRESETS, Workload

from spectral_reach.jacobian.readout import find_readout, own_share
from spectral_reach.jacobian.unit_backward import UnitBackward

SPREADS = ("per_unit_inside", "batch_shared")


def state(workload: Workload, draws: int) -> dict[str, Any]:
    """One line."""
    model, batch = workload.build()
    linearisation = linearised(model, batch)
    readout = find_readout(UnitBackward.of(linearisation))
    assert readout is not None
    own = float(own_share(readout, linearisation).sum()) / linearisation.n_samples
    found: dict[str, Any] = {"learning_rate": workload.learning_rate, "loss": linearisation.loss}
    ways = {way.name: way for way in all_ways(workload.units)}
    for name in SPREADS:
        draw = ways[name].prepare(model, batch)
        values = [draw(seed) for seed in range(draws)]
        found[name] = statistics.stdev(values) / statistics.fmean(values)
        if name == "per_unit_inside":
            found["readout_share"] = own / statistics.fmean(values)
    return found | {"draws_ratio": (found["batch_shared"] / found["per_unit_inside"]) ** 2}


def main() -> None:
    """Train, measure, show and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="reference", choices=PRESETS)
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--out", type=Path, default=OUT, help="folder (default: benchmarks/out)")
    arguments = parser.parse_args()
    base = PRESETS[arguments.preset].workload
    rows = []
    table = Table(title=f"one probe after {base.steps} steps ({arguments.preset}, {arguments.draws} draws)")
    for column in ("learning rate", "loss", "readout's share", "per_unit", "whole batch", "draws for the same error"):
        table.add_column(column, justify="right")
    for rate in arguments.learning_rates:
        row = state(replace(base, learning_rate=rate), arguments.draws)
        rows.append(row)
        spreads = (f"{row[name]:.2%}" for name in SPREADS)
        table.add_row(
            f"{rate:g}",
            f"{row['loss']:.2f}",
            f"{row['readout_share']:.0%}",
            *spreads,
            f"{row['draws_ratio']:.1f} times",
        )
    Console().print(table)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"states-{arguments.preset}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
