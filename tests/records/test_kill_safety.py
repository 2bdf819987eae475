"""Killed with -9 at any instant: every file readable, no row lost whose append returned, the lock free again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from spectral_reach.records.atomic import is_leftover
from spectral_reach.records.checkpoints import Checkpoints
from spectral_reach.records.errors import RunFolderBusyError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.records.table import Table

# A process that loads everything once and starts a writer, a copy of itself, for each line that it is sent.
STARTER = """
import os, sys, torch
from spectral_reach.records.checkpoints import Checkpoints
from spectral_reach.records.table import Table

def append_for_ever(path):
    table = Table(path)
    step = len(table)
    while True:
        columns = {f"c{i}": step * i / 3 for i in range(24)}
        table.append({"step": step, "x": step / 7, **columns, "undefined": {"a": "b"}})
        print(step, flush=True)
        step += 1

def save_for_ever(path):
    def write_extra(folder):
        (folder / "model").mkdir()
        (folder / "model" / "weights.bin").write_bytes(bytes([step % 251]) * 200_000)

    def save():
        checkpoints.save(step, {"state": torch.full((50_000,), float(step))}, write_extra)

    checkpoints = Checkpoints(path)
    latest = checkpoints.latest()
    step = latest.step if latest else 0
    while True:
        save()
        print(step, flush=True)
        if step % 3 == 0:  # Replacing a checkpoint is no weaker moment.
            save()
        step += 1

for _ in sys.stdin:
    writer = os.fork()
    if writer == 0:
        print(os.getpid(), flush=True)
        {"rows": append_for_ever, "checkpoints": save_for_ever}[sys.argv[1]](sys.argv[2])
    os.waitpid(writer, 0)
    print("\\ndead", flush=True)
"""

HOLD_LOCK = """
import sys, time
from spectral_reach.records.run_folder import RunFolder
folder = RunFolder.create(sys.argv[1], {"name": "a"})
with folder.lock():
    folder.measurements.append({"step": 0})
    print("held", flush=True)
    time.sleep(600)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Writers:
    """Writers of one kind on one path, one after the other, each killed while it writes."""

    def __init__(self, kind: str, path: Path) -> None:
        self._starter = start(STARTER, kind, path)

    def write_and_be_killed(self, seconds: float) -> int:
        """Kill ``seconds`` after the first write that returned; the last number that was printed in full."""
        stdin, stdout = self._starter.stdin, self._starter.stdout
        assert stdin is not None
        assert stdout is not None
        print("go", file=stdin, flush=True)
        writer, first = int(stdout.readline()), stdout.readline()
        time.sleep(seconds)
        os.kill(writer, signal.SIGKILL)
        lines = [first, *iter(stdout.readline, "dead\n")]
        # The last line but one is empty, or was cut short by the kill.
        return int(lines[-2])

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self._starter.communicate()


@pytest.mark.slow
def test_rows_survive_kills_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "measurements.parquet"
    moments = random.Random(0)
    with Writers("rows", path) as writers:
        for _ in range(20):
            durable = writers.write_and_be_killed(moments.uniform(0.0, 0.1))
            # Read without our own code first: any reader of Parquet must manage.
            steps = pq.read_table(path).column("step").to_pylist()
            # A row that was in flight may have made it; nothing else may be there, and nothing may be missing.
            assert steps in (list(range(durable + 1)), list(range(durable + 2)))
            assert [row["x"] for row in Table(path).rows()] == [step / 7 for step in steps]
    assert durable > 20


@pytest.mark.slow
def test_latest_checkpoint_is_whole_after_kills_at_random_moments(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    moments = random.Random(1)
    with Writers("checkpoints", checkpoints.folder) as writers:
        for _ in range(20):
            saved = writers.write_and_be_killed(moments.uniform(0.0, 0.1))
            latest = checkpoints.latest()
            assert latest is not None
            assert latest.step in (saved, saved + 1)
            assert torch.equal(latest.tensors()["state"], torch.full((50_000,), float(latest.step)))
            assert (latest.path / "model/weights.bin").read_bytes() == bytes([latest.step % 251]) * 200_000
    checkpoints.remove_leftovers()
    checkpoints.save(10**6, {})
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-1000000"]


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    process = start(HOLD_LOCK, tmp_path / "run")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    # Opening and reading need no lock.
    folder = RunFolder.create(tmp_path / "run", {"name": "a"})
    assert folder.measurements.rows() == [{"step": 0}]
    told = rf"run is being written by process {process.pid} on .*\. Wait until that has ended or stop it, or choose"
    with pytest.raises(RunFolderBusyError, match=told), folder.lock(timeout=0.2):
        pytest.fail("two processes hold one lock")
    # A failed attempt leaves the name of the holder in place for the next one.
    with pytest.raises(RunFolderBusyError, match=told), folder.lock(timeout=0):
        pytest.fail("two processes hold one lock")
    process.kill()
    process.communicate()
    with folder.lock(timeout=5):
        folder.measurements.append({"step": 1})
    assert len(folder.measurements) == 2


@pytest.mark.slow
def test_lock_waits_for_a_holder_that_is_about_to_go(tmp_path: Path) -> None:
    process = start(HOLD_LOCK.replace("600", "0.5"), tmp_path / "run")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with RunFolder.open(tmp_path / "run").lock():
        pass
    process.communicate()


def test_leftovers_are_removed_by_who_locks_not_by_who_reads(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"name": "a"})
    folder.measurements.append({"step": 0})
    folder.checkpoints.save(1, {})
    (folder.path / ".partial-0123456789ab-measurements.parquet").write_bytes(b"PAR1")
    unfinished = folder.checkpoints.folder / ".partial-0123456789ab-step-000002"
    unfinished.mkdir()
    (unfinished / "state.safetensors").write_bytes(b"{")

    reader = RunFolder.open(folder.path)
    latest = reader.checkpoints.latest()
    assert latest is not None
    assert latest.step == 1
    assert len(reader.measurements) == 1
    assert sum(is_leftover(path) for path in folder.path.rglob("*")) == 2
    with reader.lock():
        assert sum(is_leftover(path) for path in folder.path.rglob("*")) == 0
    assert len(reader.measurements) == 1
