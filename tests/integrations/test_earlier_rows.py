"""Rows of an earlier training are neither lost nor taken for those of the next."""

from pathlib import Path

import pytest

from spectral_reach.integrations.earlier_rows import make_room
from spectral_reach.records.errors import RunFolderBusyError
from spectral_reach.records.run_folder import RunFolder


def folder_with(path: Path, steps: list[int]) -> RunFolder:
    folder = RunFolder.create(path, {})
    for step in steps:
        folder.measurements.append({"step": step})
        folder.updates.append({"step": step})
        folder.measurements_of("heldout").append({"step": step})
    return folder


def test_nothing_there_is_nothing_to_do(tmp_path: Path) -> None:
    make_room(tmp_path / "rows", 0)
    folder_with(tmp_path / "rows", [])
    make_room(tmp_path / "rows", 0)
    assert [each.name for each in tmp_path.iterdir()] == ["rows"]


def test_a_training_that_begins_anew_puts_them_aside(tmp_path: Path) -> None:
    for number in (1, 2):
        folder_with(tmp_path / "rows", [number])
        make_room(tmp_path / "rows", 0)
        aside = RunFolder.open(tmp_path / f"rows-{number}")
        assert [row["step"] for row in aside.measurements.rows()] == [number]
    assert not (tmp_path / "rows").exists()


def test_a_training_that_goes_on_keeps_those_before(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "rows", [0, 2, 4])
    make_room(tmp_path / "rows", 4)
    assert [row["step"] for row in folder.measurements.rows()] == [0, 2]
    assert [row["step"] for row in folder.updates.rows()] == [0, 2]
    assert [row["step"] for row in folder.named_measurements["heldout"].rows()] == [0, 2]


def test_rows_of_a_named_batch_alone_are_rows(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "rows", {}).measurements_of("heldout").append({"step": 3})
    make_room(tmp_path / "rows", 0)
    assert RunFolder.open(tmp_path / "rows-1").named_measurements["heldout"].rows() == [{"step": 3}]


def test_rows_that_are_being_written_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path / "rows", [0])
    quick = RunFolder.lock
    monkeypatch.setattr(RunFolder, "lock", lambda self, timeout=0.1: quick(self, 0.1))
    with folder.lock(), pytest.raises(RunFolderBusyError, match="is being written by process"):
        make_room(tmp_path / "rows", 0)
    assert folder.path.is_dir()
