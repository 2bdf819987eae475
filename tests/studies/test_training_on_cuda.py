"""Training on a CUDA device: the numbers of the CPU up to rounding, and every way of stopping and going on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import digits, folder_of, small_run

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.run_config import RunConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def run(config: RunConfig, runs: Path, calls: int | None = None) -> RunFolder:
    folder = folder_of(config, runs / config.name)
    left = iter(range(calls)) if calls is not None else None
    assert train(folder, config, digits(), should_stop=lambda: left is not None and next(left, None) is None) == (
        calls is None
    )
    return folder


def values(folder: RunFolder, column: str) -> np.ndarray:
    return np.array([row[column] for row in folder.losses.rows() if row[column] is not None])


@pytest.mark.parametrize("change", [{}, {"accumulation": 2}, {"optimiser": "sgd"}, {"trained": "readout"}])
def test_cuda_gives_the_numbers_of_the_cpu(change: dict[str, Any], tmp_path: Path) -> None:
    measurement = replace(small_run().measurement, heldout_units=4)
    there = run(replace(small_run("cuda", device="cuda", **change), measurement=measurement), tmp_path)
    here = run(replace(small_run("cpu", device="cpu", **change), measurement=measurement), tmp_path)
    for column in ("train_loss", "heldout_loss"):
        assert np.allclose(values(there, column), values(here, column), rtol=2e-3)
    for table in ("measurements", "heldout_measurements"):
        rows, expected = getattr(there, table).rows(), getattr(here, table).rows()
        assert [row["step"] for row in rows] == [row["step"] for row in expected]
        # Probes are drawn on the device: chi_net and what divides by it differ by the draw.
        assert rows[0]["chi_loss"] == pytest.approx(expected[0]["chi_loss"], rel=1e-4)
        assert rows[0]["delta_loss"] == pytest.approx(expected[0]["delta_loss"], rel=1e-3)
        assert rows[0]["chi_net"] == pytest.approx(expected[0]["chi_net"], rel=0.2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_stopped_on_cuda_goes_on(precision: str, tmp_path: Path) -> None:
    undisturbed = run(small_run("undisturbed", device="cuda", precision=precision), tmp_path)
    for calls in (3, 4):
        folder = run(small_run("stopped", device="cuda", precision=precision), tmp_path, calls)
    assert train(folder, small_run("stopped", device="cuda", precision=precision), digits())
    assert np.allclose(values(folder, "train_loss"), values(undisturbed, "train_loss"), rtol=2e-2)
    assert len(folder.measurements) == len(undisturbed.measurements)


def test_a_run_begun_on_cuda_ends_on_the_cpu(tmp_path: Path) -> None:
    config = small_run(device="auto")
    folder = run(config, tmp_path, 5)
    assert train(folder, replace(config, training=replace(config.training, device="cpu")), digits())
    assert folder.is_finished
