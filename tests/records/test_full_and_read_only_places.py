"""A full disk and a read-only place: one clear error, everything finished readable, and on we go after the remedy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import torch

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.records.table import Table

# For programs, not for people: a limit of the process stops a write in the middle, like a full disk.
LIMITED = """
import resource, sys, torch
from pathlib import Path
from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
folder = RunFolder.create(sys.argv[1], {"name": "a"})
folder.checkpoints.save(0, {"x": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
step = 0
with folder.lock():
    try:
        while step < 5_000:
            folder.measurements.append_many({"step": s, "x": s / 7, "y": s / 3} for s in range(step, step + 100))
            step += 100
    except RecordError as error:
        assert folder.measurements.rows()[-1]["step"] == step - 1
        print(error)
    try:
        folder.checkpoints.save(1, {"x": torch.zeros(100_000)})
    except RecordError as error:
        print(error)
print(step)
"""


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 400 kB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine mounts no file system, though root: {error}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_space(small_disk: Path) -> None:
    folder = RunFolder.create(small_disk / "run", {"name": "a"})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    told = (
        r"run/measurements\.parquet cannot be written: No space left on device\. Free space .*, or choose another "
        r"output folder; every finished measurement is still readable\."
    )

    def append_for_ever() -> None:
        for step in count(0, 500):
            folder.measurements.append_many({"step": s, "x": s / 7, "y": s / 3} for s in range(step, step + 500))

    with folder.lock():
        with pytest.raises(RecordError, match=told):
            append_for_ever()
        step = len(folder.measurements)
        assert step > 0
        assert step % 500 == 0
        assert [row["step"] for row in Table(folder.measurements.path).rows()] == list(range(step))
        assert not [path for path in folder.path.iterdir() if path.name.startswith(".partial")]
        ballast.unlink()
        folder.measurements.append({"step": step})
    assert len(RunFolder.open(folder.path).measurements) == step + 1


def test_a_full_disk_leaves_the_checkpoint_before(small_disk: Path) -> None:
    folder = RunFolder.create(small_disk / "run", {"name": "a"})
    folder.checkpoints.save(1, {"x": torch.ones(1000)})
    with pytest.raises(RecordError, match=r"step-000002 cannot be written: No space left on device\. Free space"):
        folder.checkpoints.save(2, {"x": torch.ones(1_000_000)})
    with pytest.raises(RecordError, match=r"step-000002 cannot be written: No space left on device\. Free space"):
        folder.checkpoints.save(2, {}, lambda path: (path / "model").write_bytes(bytes(500_000)))
    latest = folder.checkpoints.latest()
    assert latest is not None
    assert torch.equal(latest.tensors()["x"], torch.ones(1000))
    assert [path.name for path in folder.checkpoints.folder.iterdir()] == ["step-000001"]


def test_a_new_run_on_a_full_disk_is_told(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(1_000_000))
    with pytest.raises(RecordError, match=r"run.* cannot be written: No space left on device\. Free space"):
        RunFolder.create(small_disk / "run", {"name": "a"})


def test_a_read_only_disk_is_told_and_can_be_read(small_disk: Path) -> None:
    folder = RunFolder.create(small_disk / "run", {"name": "a"})
    folder.measurements.append({"step": 0})
    folder.checkpoints.save(1, {"x": torch.ones(3)})
    mount("-o", "remount,ro", str(small_disk))
    told = "cannot be written: Read-only file system. Make the folder writable or choose another output folder"
    reader = RunFolder.create(folder.path, {"name": "a"})
    assert reader.measurements.rows() == [{"step": 0}]
    latest = reader.checkpoints.latest()
    assert latest is not None
    assert torch.equal(latest.tensors()["x"], torch.ones(3))
    with pytest.raises(RecordError, match=told):
        reader.measurements.append({"step": 1})
    with pytest.raises(RecordError, match=told):
        reader.checkpoints.save(2, {})
    with pytest.raises(RecordError, match=told):
        reader.mark_finished({})
    with pytest.raises(RecordError, match=told), reader.lock(timeout=0):
        pytest.fail("a lock was taken where nothing can be written")
    with pytest.raises(RecordError, match=told):
        RunFolder.create(small_disk / "other", {"name": "a"})


def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root may write everywhere; the read-only disk covers it")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RecordError, match=r"cannot be written: Permission denied\. Make the folder writable"):
            RunFolder.create(tmp_path / "run", {"name": "a"})
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_limit_on_file_size_stops_a_run_that_can_be_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    row_error, checkpoint_error, step = done.stdout.splitlines()
    assert "measurements.parquet cannot be written: File too large. Free space (or raise the quota" in row_error
    assert "step-000001 cannot be written: File too large. Free space (or raise the quota" in checkpoint_error
    folder = RunFolder.open(tmp_path / "run")
    assert 0 < int(step) < 5_000
    assert [row["step"] for row in folder.measurements.rows()] == list(range(int(step)))
    latest = folder.checkpoints.latest()
    assert latest is not None
    assert torch.equal(latest.tensors()["x"], torch.zeros(10))
