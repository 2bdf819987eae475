"""The benchmark runs as it is, at toy size, and its columns fit together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "estimators.py"
TOY = ["--width", "16", "--vocabulary", "16", "--context", "4", "--sequences", "2", "--probes", "4"]


def test_estimators_side_by_side(tmp_path: Path) -> None:
    out = tmp_path / "out" / "estimators.json"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), *TOY, "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    exact, batch = result["rows"]
    assert (exact["way"], batch["way"]) == ("exact", "batch")
    assert result["batch"]["output_directions"] == 2 * 4 * 16
    assert exact["cost_of_one_percent"] == exact["seconds"]
    expected = batch["seconds_per_probe"] * (batch["spread"] / 0.01) ** 2
    assert batch["cost_of_one_percent"] == pytest.approx(expected, rel=1e-9)
    assert batch["training_steps"] == pytest.approx(expected / result["training_step_seconds"], rel=1e-9)
    assert 0.01 < batch["spread"] < 1
    for word in ("exact", "batch", "spread", "1% costs"):
        assert word in done.stdout


def test_one_probe_has_no_spread() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--probes", "1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--probes must be 2 or more" in done.stderr
