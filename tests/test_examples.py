"""Every file of ``examples/`` runs at toy size, warnings being errors, and tells what it is there to show."""

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TOY = {
    "frozen_backbone": ["--steps", "15", "--out", "backbone.png"],
    "gaussian_process_kernel": ["--points", "120", "--out", "figures/kernels.png"],
    "interference": ["--steps", "1"],
    "lightning_trainer": ["--steps", "12", "--out", "run"],
    "network_spectrum": ["--steps", "300", "--out", "spectrum.png"],
    "pytorch_loop": ["--steps", "40", "--out", "loop.png"],
    "transformers_trainer": ["--steps", "12", "--out", "run"],
}
TRAINERS = ("lightning_trainer", "transformers_trainer")
Run = Callable[[str], tuple[str, Path]]


def run_here(name: str, arguments: list[str]) -> tuple[int, str, str]:
    """Its exit code, stdout and stderr, in this process, which has made most of its imports."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [f"{name}.py", *arguments])
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
    plt.close("all")
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What an example prints, and the folder that it was run in: once, whoever asks."""
    done: dict[str, tuple[str, Path]] = {}

    def run(name: str) -> tuple[str, Path]:
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            if name in TRAINERS:  # they set warnings, logging and seeds of the whole process
                command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *TOY[name]]
                environment = {**os.environ, "MPLCONFIGDIR": str(folder / "matplotlib")}
                ended = subprocess.run(
                    command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120
                )
                assert (ended.returncode, ended.stderr) == (0, "")
                done[name] = ended.stdout, folder
            else:
                with contextlib.chdir(folder):
                    code, out, err = run_here(name, TOY[name])
                assert (code, err) == (0, "")
                done[name] = out, folder
        return done[name]

    return run


def test_every_example_is_here() -> None:
    assert sorted(TOY) == sorted(file.stem for file in EXAMPLES.glob("*.py"))


def test_the_gallery_shows_every_example() -> None:
    gallery = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    assert [name for name in TOY if f"examples/{name}.py" not in gallery] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY)
def test_an_example_runs(ran: Run, name: str) -> None:
    printed, folder = ran(name)
    assert printed
    for drawn in (argument for argument in TOY[name] if argument.endswith(".png")):
        assert (folder / drawn).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY)
def test_an_example_explains_itself(name: str) -> None:
    code, out, _ = run_here(name, ["--help"])
    assert code == 0
    assert out.startswith("usage: ")


@pytest.mark.slow
def test_kernels_of_a_gaussian_process(ran: Run) -> None:
    """A Matern kernel in one dimension has eigenvalues that fall as k^-(2 nu + 1); smooth ones fit a fast wave late."""
    printed, _ = ran("gaussian_process_kernel")
    rows = {line[:20].strip(): line[20:] for line in printed.splitlines()}
    for name, exponent in (("Matern 5/2", 6), ("Matern 1/2", 2)):
        found = re.search(r"([\d.]+) \[([\d.]+), ([\d.]+)\]$", rows[name])
        assert found is not None
        assert float(found[1]) == pytest.approx(exponent, rel=0.15)
    assert rows["RBF"].endswith("too few above rounding")
    assert "> 1e+08" in rows["RBF"]
    rough, smooth = (float(rows[name].split()[3]) for name in ("Matern 1/2", "Matern 5/2"))
    assert smooth > 20 * rough


def test_too_few_points() -> None:
    code, _, err = run_here("gaussian_process_kernel", ["--points", "5"])
    assert code == 2
    assert "--points is 5; expected 40 or more" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_trainers_are_measured(ran: Run, name: str) -> None:
    printed, folder = ran(name)
    table = printed[printed.index("  step     loss") :].splitlines()
    steps = [int(line.split()[0]) for line in table[1:7]]
    assert steps == [0, 1, 2, 3, 6, 10]
    rows = pq.read_table(folder / "run" / "spectral_reach" / "measurements.parquet").to_pylist()
    assert [row["step"] for row in rows] == steps


@pytest.mark.slow
def test_the_network_component_grows_where_features_are_learnt_alone(ran: Run) -> None:
    growth = {line[:16].strip(): float(line.split()[-1]) for line in ran("frozen_backbone")[0].splitlines()}
    assert growth["full training"] > 2
    assert growth["frozen backbone"] == pytest.approx(1, abs=0.1)


@pytest.mark.slow
def test_domains_that_ask_for_opposites_interfere(ran: Run) -> None:
    _, first, *_ = ran("interference")[0].splitlines()
    _, _, alike, _, alike_error, opposed, _, opposed_error = first.split()
    assert float(alike) > 4 * float(alike_error)
    assert float(opposed) < -4 * float(opposed_error)


@pytest.mark.slow
def test_linear_part_and_correction_make_the_change(ran: Run) -> None:
    first, second, _ = ran("pytorch_loop")[0].splitlines()
    change = float(first.removesuffix(":").split()[-1])
    linear, correction = map(float, re.findall(r"[-+]\d+\.\d+", second))
    assert change == pytest.approx(linear + correction, abs=0.011)  # of numbers with two decimals
    assert change < -0.1


@pytest.mark.slow
def test_position_falls_in_training(ran: Run) -> None:
    _, before, after = ran("network_spectrum")[0].splitlines()
    assert float(after.split()[2]) < float(before.split()[2])
