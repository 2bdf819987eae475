"""Every file of ``examples/`` runs at toy size, warnings being errors, and tells what it is there to show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOY = {
    "gaussian_process_kernel": ["--points", "120", "--out", "figures/kernels.png"],
    "lightning_trainer": ["--steps", "12", "--out", "run"],
    "transformers_trainer": ["--steps", "12", "--out", "run"],
}


def run(name: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments]
    environment = {**os.environ, "MPLCONFIGDIR": str(folder / "matplotlib")}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)


def test_every_example_is_here() -> None:
    assert sorted(TOY) == sorted(file.stem for file in EXAMPLES.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    done = run(name, TOY[name], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("name", TOY)
def test_an_example_explains_itself(name: str, tmp_path: Path) -> None:
    done = run(name, ["--help"], tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")


@pytest.mark.slow
def test_kernels_of_a_gaussian_process(tmp_path: Path) -> None:
    """A Matern kernel in one dimension has eigenvalues that fall as k^-(2 nu + 1); smooth ones fit a fast wave late."""
    done = run("gaussian_process_kernel", TOY["gaussian_process_kernel"], tmp_path)
    assert (tmp_path / "figures" / "kernels.png").read_bytes().startswith(b"\x89PNG")
    rows = {line[:20].strip(): line[20:] for line in done.stdout.splitlines()}
    for name, exponent in (("Matern 5/2", 6), ("Matern 1/2", 2)):
        found = re.search(r"([\d.]+) \[([\d.]+), ([\d.]+)\]$", rows[name])
        assert found is not None
        assert float(found[1]) == pytest.approx(exponent, rel=0.15)
    assert rows["RBF"].endswith("too few above rounding")
    assert "> 1e+08" in rows["RBF"]
    rough, smooth = (float(rows[name].split()[3]) for name in ("Matern 1/2", "Matern 5/2"))
    assert smooth > 20 * rough


def test_too_few_points(tmp_path: Path) -> None:
    done = run("gaussian_process_kernel", ["--points", "5"], tmp_path)
    assert done.returncode == 2
    assert "--points is 5; expected 40 or more" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightning_trainer", "transformers_trainer"])
def test_trainers_are_measured(name: str, tmp_path: Path) -> None:
    done = run(name, TOY[name], tmp_path)
    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("  step     loss") :].splitlines()
    steps = [int(line.split()[0]) for line in table[1:7]]
    assert steps == [0, 1, 2, 3, 6, 10]
    rows = pq.read_table(tmp_path / "run" / "spectral_reach" / "measurements.parquet").to_pylist()
    assert [row["step"] for row in rows] == steps
