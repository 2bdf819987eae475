"""Two processes that train one model: the first alone measures, its own part of the batch, and nothing else changes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spectral_reach as sr
from spectral_reach.integrations.processes import check_measurable_alone
from spectral_reach.records.run_folder import RunFolder

HERE = Path(__file__).parent


def processes(number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={number}", f"--master_port={port}"]
    # A hang is what is looked for: it ends with the error of subprocess.
    return subprocess.run(
        [*launch, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["huggingface", "lightning"])
def test_the_first_alone_measures_and_training_is_the_same_to_the_bit(framework: str, tmp_path: Path) -> None:
    done = processes(2, str(HERE / "two_processes.py"), framework, str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["differing"] == second["differing"] == []
    assert first["weights"] == second["weights"]
    assert (first["has_tracker"], second["has_tracker"]) == (True, False)
    folder = RunFolder.open(tmp_path / "watched" / "spectral_reach")
    assert [row["step"] for row in folder.updates.rows()] == [0, 1, 2, 3]
    for name in ("heldout", "training-heldout"):
        assert [row["step"] for row in folder.named_measurements[name].rows()] == [0, 2]
    rows = folder.measurements.rows()
    assert [row["step"] for row in rows] == [0, 2]
    for row in rows:
        by_hand: dict[str, Any] = first["by_hand"][str(row["step"])]
        assert {name: repr(row[name]) for name in by_hand} == by_hand
        assert by_hand["loss"] != second["by_hand"][str(row["step"])]["loss"]  # the other part of the batch


@pytest.fixture
def process_group(tmp_path: Path) -> Any:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_a_sharded_model_is_refused_by_name(process_group: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))
    batch = torch.randn(8, 4), torch.randint(0, 3, (8,))
    sr.decompose(model, batch)
    fully_shard(model[0], mesh=init_device_mesh("cpu", (1,)))
    for measured in (
        lambda: sr.decompose(model, batch),
        lambda: sr.Tracker(model, schedule=1),
        lambda: check_measurable_alone(model),
    ):
        with pytest.raises(
            ValueError, match=r"parameter '0\.weight' is a DTensor \(.*fully_shard.*whole parameters in"
        ):
            measured()


def test_batch_statistics_of_all_processes_are_refused(process_group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.SyncBatchNorm(6))
    check_measurable_alone(model)  # one process waits for none
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match=r"'1' is a SyncBatchNorm, and the first process measures alone"):
        check_measurable_alone(model)
    check_measurable_alone(model[0])
