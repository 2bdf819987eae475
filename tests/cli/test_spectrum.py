"""``spectrum``: that of ``sr.spectrum`` for a model on disk, its cost told before, clear words for what is wrong."""

import json
import math
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

import spectral_reach as sr
from spectral_reach.cli import spectrum_cost
from spectral_reach.cli.app import app
from spectral_reach.cli.exits import ExitCode
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies import data as data_sets
from spectral_reach.studies.data.batches import measurement_batch
from spectral_reach.studies.models.llama import llama
from spectral_reach.studies.training.config import MeasurementConfig, TrainingConfig
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.run_config import DataConfig, RunConfig, facts_of
from spectral_reach.studies.training.snapshot import load_snapshot

SHAPE = {"vocabulary": 18, "context": 64}  # of the digits
EXPLICIT = {"method": "explicit", "samples": 12, "classes": 5}
LANCZOS = {"method": "lanczos", "steps": 5, "tolerance": 0.0, "density_vectors": 2, "probes": 3}


@pytest.fixture(scope="module")
def hugging_face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    llama(16, **SHAPE).build(seed=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of training; the weights of two of them are kept."""
    model, data = llama(16, **SHAPE), DataConfig(name="digits")
    training = TrainingConfig(
        steps=3,
        batch_size=4,
        learning_rate=0.01,
        warmup_steps=1,
        heldout_every=3,
        heldout_units=4,
        checkpoint_every=3,
        snapshots=(0, 2),
    )
    config = RunConfig(
        name="pixels-16",
        family="pixels",
        data=data,
        model=model,
        training=training,
        measurement=MeasurementConfig(per_decade=1, width=1, units=4, late_measurements=1, late_units=4),
        facts=facts_of(data.load(), model),
    )
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "pixels-16", config.as_dict())
    assert train(folder, config, data.load())
    return folder.path


def spectrum(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["spectrum", *map(str, arguments)])


def as_options(settings: dict[str, Any]) -> list[object]:
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]


def arrays_of(found: sr.Spectrum) -> list[np.ndarray]:
    return [found.p, found.gamma2]


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from spectral_reach.cli.app import app
assert "--density-vectors" in CliRunner().invoke(app, ["spectrum", "--help"]).output
print(sorted({"torch", "numpy", "scipy", "transformers", "matplotlib"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("settings", [EXPLICIT, LANCZOS], ids=lambda settings: settings["method"])
def test_the_file_is_the_spectrum_itself(hugging_face_folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    out = tmp_path / "new" / "spectrum.npz"
    options = ["--data", "digits", "--units", 2, "--seed", 5, *as_options(settings)]
    result = spectrum(hugging_face_folder, *options, "--out", out)
    assert result.exit_code == ExitCode.OK, result.output
    batch = measurement_batch(data_sets.load("digits"), 0, seed=5, units=2)
    expected = sr.spectrum(llama(16, **SHAPE).build(seed=1).eval(), batch, seed=5, **settings)
    found = sr.Spectrum.load(out)
    for got, wanted in zip(arrays_of(found), arrays_of(expected), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert str(found) == str(expected)
    assert str(expected) in result.stdout
    assert f"{hugging_face_folder}, on 2 training sequences of digits" in result.stdout


@pytest.mark.parametrize("settings", [EXPLICIT, LANCZOS], ids=lambda settings: settings["method"])
def test_json_has_the_numbers(hugging_face_folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    options = [hugging_face_folder, "--data", "digits", "--units", 2, *as_options(settings), "--out"]
    for suffix in ("json", "npz"):
        assert spectrum(*options, tmp_path / f"spectrum.{suffix}").exit_code == ExitCode.OK
    written = json.loads((tmp_path / "spectrum.json").read_text())
    found = sr.Spectrum.load(tmp_path / "spectrum.npz")
    about = {"data": "digits", "seed": 0, "step": None, "units": 2, "method": settings["method"], "steps": found.steps}
    assert {name: written[name] for name in about} == about
    for name in ("chi_pos", "chi_net", "chi_net_stderr", "participation_ratio", "effective_rank"):
        assert written[name] == getattr(found, name)
    assert (written["p"], written["gamma2"]) == (found.p.tolist(), found.gamma2.tolist())
    for each in written["position_quantiles"]:
        bounds = found.position_bounds(each["q"])
        assert each["value"] == found.position_quantile(each["q"])
        assert each["low"] == bounds.low
        assert each["high"] == (None if math.isinf(bounds.high) else bounds.high)
    if settings["method"] == "explicit":
        assert written["tail"]["undefined"] == found.tail().undefined
    else:
        assert written["participation_ratio_stderr"] == found.density.participation_ratio.stderr


@pytest.mark.parametrize(("suffix", "starts"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_figure_is_drawn(hugging_face_folder: Path, tmp_path: Path, suffix: str, starts: bytes) -> None:
    file = tmp_path / "new" / f"all.modes.{suffix}"
    result = spectrum(hugging_face_folder, "--data", "digits", "--units", 1, "--steps", 3, "--figure", file)
    assert result.exit_code == ExitCode.OK, result.output
    assert file.read_bytes().startswith(starts)
    assert f"Drawn in {file}" in result.stdout


def test_a_run_is_seen_at_its_latest_checkpoint_or_at_a_snapshot(run_folder: Path, tmp_path: Path) -> None:
    for step, options in ((3, []), (2, ["--step", 2]), (0, ["--step", 0])):
        out = tmp_path / f"{step}.npz"
        result = spectrum(run_folder, *options, "--units", 1, *as_options(EXPLICIT), "--out", out)
        assert result.exit_code == ExitCode.OK, result.output
        assert f"{run_folder} after {step} steps, on 1 training sequences of digits" in result.stdout
        if options:
            model, _ = load_snapshot(run_folder, step)
            batch = measurement_batch(data_sets.load("digits"), 0, seed=0, units=1)
            np.testing.assert_array_equal(sr.Spectrum.load(out).p, sr.spectrum(model, batch, **EXPLICIT).p)


def test_a_step_that_is_not_kept(run_folder: Path, hugging_face_folder: Path) -> None:
    result = spectrum(run_folder, "--step", 1)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "has no revision 'step1'; it has step0, step2, step3." in result.stderr
    result = spectrum(hugging_face_folder, "--data", "digits", "--step", 1)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "has no revision 'step1'; it has main." in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", "stdlib"], "The model has a vocabulary of 18 tokens, the data stdlib one of 384"),
        ([], "has no data of its own; name some: --data cifar5m or digits or "),
        (["--data", "digits", "--method", "magic"], "method='magic' is unknown; expected 'explicit' or 'lanczos'"),
        (["--data", "digits", "--units", 0], "Invalid value for '--units'"),
        (["--data", "digits", "--steps", 0], "Invalid value for '--steps'"),
        (["--data", "digits", "--tolerance", -1], "Invalid value for '--tolerance'"),
        (["--data", "digits", "--tolerance", "nan"], "Invalid value for '--tolerance'"),
        (["--data", "digits", "--units", 1, "--samples", 65], "samples=65; expected 1 to 64, what the batch has"),
        (["--data", "digits", "--classes", 19], "classes=19; expected 1 to 18, what the batch has"),
        (["--data", "digits", "--method", "explicit", "--density-vectors", 1], "density_vectors is for"),
        (["--data", "digits", "--memory-budget", 0], "--memory-budget is 0; expected GiB above 0, for example 4."),
        (["--data", "digits", "--memory-budget", "inf"], "--memory-budget is inf; expected GiB above 0"),
        (
            ["--data", "digits", "--memory-budget", "1e-6"],
            "Lanczos steps keep 0.000942 GiB of vectors, and memory_budget allows 9.99e-07 GiB",
        ),
        (["--data", "digits", "--method", "explicit", "--memory-budget", "0.01"], "kernel of 9,216 outputs needs"),
        (["--data", "digits", "--out", "numbers.csv"], "expected a file name that ends in .npz or .json"),
        (["--data", "digits", "--figure", "all.gif"], "expected a file name that ends in one of .png, .pdf, .svg"),
    ],
)
def test_bad_options(hugging_face_folder: Path, options: list[object], says: str) -> None:
    result = spectrum(hugging_face_folder, *options)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert says in result.stderr


@pytest.mark.parametrize("option", ["--out", "--figure"])
def test_a_folder_that_cannot_be_is_found_out_before_the_work(
    hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("spectral_reach.spectra.spectrum.spectrum", None)
    file = tmp_path / "file" / ("x.json" if option == "--out" else "x.png")
    result = spectrum(hugging_face_folder, "--data", "digits", option, file)
    assert result.exit_code == ExitCode.FOLDER
    assert "cannot be written" in result.stderr


def test_without_matplotlib_nothing_is_computed_in_vain(
    hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectral_reach.spectra.spectrum.spectrum", None)
    for name in list(sys.modules):
        if name.split(".")[0] == "matplotlib" or name.startswith("spectral_reach.figures"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = spectrum(hugging_face_folder, "--data", "digits", "--figure", tmp_path / "all.png")
    assert result.exit_code == ExitCode.FAILED
    assert 'matplotlib is not installed. It comes with: pip install "spectral-reach[studies]"' in result.stderr


def test_the_cost_is_told_before_the_work_and_nothing_else_in_a_log(hugging_face_folder: Path) -> None:
    common = [hugging_face_folder, "--data", "digits", "--units", 2]
    result = spectrum(*common, *as_options(LANCZOS))
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        "At most 15 products with the kernel of 2,304 outputs, 2 of 3 times from random vectors, and 3 random probes: "
        "at most about "
    )
    result = spectrum(*common, *as_options(EXPLICIT))
    (line,) = result.stderr.splitlines()
    assert line.startswith("The kernel of 60 outputs (12 samples x 5 classes), 2.7e-05 GiB: about ")


def explicit_cost(step: float, samples: int, classes: int, budget: int) -> str:
    """Of 8 sequences of 64 tokens and a million parameters."""
    batch = torch.zeros(8, 64), torch.zeros(8, 64)
    return spectrum_cost.explicit_cost(step, batch, samples, classes, parameters=10**6, budget=budget)


@pytest.mark.parametrize(
    ("cost", "says"),
    [
        (lambda: spectrum_cost.lanczos_cost(0.5, 100, steps=10, density_vectors=0, probes=2), "about 12 s."),
        (lambda: spectrum_cost.lanczos_cost(5, 100, steps=10, density_vectors=3, probes=4), "about 8 min."),
        (lambda: explicit_cost(0.6, 500, 10, 2**40), "about 61 min."),
        (lambda: explicit_cost(0.6, 500, 10, 2**31), "about 1.7 h."),
        (lambda: explicit_cost(0.6, 500, 10, 8 * 5000**2 + 2), "about 1.9 h."),
        (lambda: explicit_cost(1e-6, 5, 2, 2**30), "about 1 s."),
    ],
)
def test_a_cost_in_words(cost: Callable[[], str], says: str) -> None:
    assert cost().endswith(says)


@pytest.mark.slow
def test_on_a_terminal_a_bar_shows_the_work_and_ctrl_c_ends_it_cleanly(hugging_face_folder: Path) -> None:
    ours, theirs = pty.openpty()
    arguments = ["spectrum", hugging_face_folder, "--data", "digits", "--units", "64", "--steps", "2000"]
    command = [sys.executable, "-m", "spectral_reach.cli", *map(str, arguments), "--tolerance", "0"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 120
    while b"/2000" not in seen and time.monotonic() < deadline:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # how Linux tells that the other side of a terminal is gone
        pass
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert b"/2000" in seen
    assert b"Stopped." in seen
    assert b"Traceback" not in seen
    assert b"chi_pos" not in out
