"""How much longer the demo's trainings take for being measured: every run of it twice, with and without.

    python benchmarks/tracked_demo.py

As in the demo each run computes on one thread, ``--workers`` at a time. What is not training (loading data, figures,
start of processes) is left out: it is the same in both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from workload import OUT

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.registry import find
from spectral_reach.studies.training.config import MeasurementConfig
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.run_config import RunConfig


def seconds(config: RunConfig, measured: bool) -> float:
    """Of one training."""
    data = config.data.load()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", {})
        schedule = MeasurementConfig.measured_steps if measured else lambda self, steps: ()
        with patch.object(MeasurementConfig, "measured_steps", schedule):
            start = time.perf_counter()
            train(run, config, data)
            return time.perf_counter() - start


def both(arguments: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    """One run of the demo; which of the two comes first alternates."""
    number, config = arguments[0], RunConfig.from_dict(arguments[1])
    order = (True, False) if number % 2 else (False, True)
    for measured in order:  # what a process loads once
        seconds(_shortened(config), measured)
    taken = {measured: seconds(config, measured) for measured in order}
    measurements = len(config.measurement.measured_steps(config.training.steps))
    return {
        "run": config.name,
        "parameters": config.model.parameters,
        "steps": config.training.steps,
        "measurements": measurements,
        "seconds": taken[False],
        "seconds_measured": taken[True],
    }


def _shortened(config: RunConfig) -> RunConfig:
    training = replace(config.training, steps=2, warmup_steps=1, heldout_sequences=1)
    return replace(config, training=training)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo", choices=("demo", "toy"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT / "tracked_demo.json")
    arguments = parser.parse_args()
    runs = sorted(find("scaling").plan({"preset": arguments.preset}).runs, key=lambda run: -run.model.parameters)
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        rows = []
        for row in pool.imap(both, enumerate(run.as_dict() for run in runs), chunksize=1):
            rows.append(row)
            share = row["seconds_measured"] / row["seconds"] - 1
            print(
                f"{row['run']:20} {row['parameters']:>9,} parameters: {row['seconds']:6.1f} s without, {share:+.1%} "
                f"with {row['measurements']} measurements in {row['steps']} steps",
                flush=True,
            )
    total, measured = (sum(row[name] for row in rows) for name in ("seconds", "seconds_measured"))
    print(f"all: {total:.0f} s without, {measured / total - 1:+.1%} with")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"runs": rows, "added": measured / total - 1}, indent=1))


if __name__ == "__main__":
    main()
