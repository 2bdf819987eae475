"""Weights that a run keeps for good: whole, the same after any interruption, and invisible to the training."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import contents, digits, folder_of, small_run

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.config import SettingTypeError
from spectral_reach.studies.training.loop import train
from spectral_reach.studies.training.progress import Progress
from spectral_reach.studies.training.snapshot import load_snapshot

KEPT = (0, 5, 8, 12)


class Killed(BaseException):
    """In the middle of something, as a kill would be."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = small_run(snapshots=KEPT)
    folder = folder_of(config, tmp_path_factory.mktemp("undisturbed") / "run")
    assert train(folder, config, digits())
    return folder


def test_a_run_keeps_the_snapshots_that_were_asked_for(undisturbed: RunFolder) -> None:
    assert undisturbed.snapshots.steps() == KEPT
    assert sorted(path.name for path in undisturbed.snapshots.path(5).iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    start, config = load_snapshot(undisturbed.path, 0)
    assert config == small_run(snapshots=KEPT)
    fresh = config.model.build(config.training.seed)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), fresh.parameters(), strict=True))
    assert not start.training
    end, _ = load_snapshot(undisturbed.path, 12)
    latest = undisturbed.checkpoints.latest()
    assert latest is not None
    latest.load_weights(fresh)
    assert all(torch.equal(a, b) for a, b in zip(end.parameters(), fresh.parameters(), strict=True))


def test_a_run_without_snapshots_is_the_same_run(undisturbed: RunFolder, tmp_path: Path) -> None:
    config = small_run()
    folder = folder_of(config, tmp_path / "run")
    assert train(folder, config, digits())
    assert not (folder.path / "snapshots").exists()
    plain, kept = contents(folder.path), contents(undisturbed.path)
    assert set(kept) - set(plain) == {name for name in kept if name.startswith("snapshots")}
    assert [name for name in plain if plain[name] != kept[name]] == ["config.json"]


@pytest.mark.parametrize("step", [1, 5, 6, 8, 9, 12])
def test_a_run_that_dies_anywhere_leaves_the_same_snapshots(step: int, undisturbed: RunFolder, tmp_path: Path) -> None:
    config = small_run(snapshots=KEPT)
    folder = folder_of(config, tmp_path / "run")

    def die(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        train(folder, config, digits(), on_progress=die)
    assert folder.snapshots.steps() == tuple(kept for kept in KEPT if kept < step)
    torch.manual_seed(99)
    assert train(RunFolder.open(folder.path), config, digits())
    assert contents(folder.path) == contents(undisturbed.path)


@pytest.mark.parametrize("step", KEPT)
def test_a_kill_in_the_middle_of_a_snapshot_leaves_none_and_it_is_made_again(
    step: int, undisturbed: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run(snapshots=KEPT)
    folder = folder_of(config, tmp_path / "run")
    save = folder.snapshots.save

    def cut(at: int, write: Callable[[Path], None]) -> None:
        save(at, write)
        if at == step:
            # What a process that is killed at this instant leaves.
            whole = folder.snapshots.path(at)
            (whole / "config.json").unlink()
            whole.rename(whole.with_name(".partial-0123456789ab-" + whole.name))
            raise Killed

    monkeypatch.setattr(folder.snapshots, "save", cut)
    with pytest.raises(Killed):
        train(folder, config, digits())
    assert step not in folder.snapshots.steps()
    assert train(RunFolder.open(folder.path), config, digits())
    assert contents(folder.path) == contents(undisturbed.path)


def test_a_snapshot_that_is_not_there_is_told(undisturbed: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"has no snapshot of step 7: it has 0, 5, 8, 12\. Let the run go on"):
        load_snapshot(undisturbed.path, 7)
    folder = folder_of(small_run(), tmp_path / "run")
    with pytest.raises(RecordError, match=r"has no snapshot of step 0: it has none\."):
        load_snapshot(folder.path, 0)


def test_a_damaged_snapshot_is_told(undisturbed: RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(undisturbed.path, copy)
    file = copy / "snapshots" / "step-000005" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RecordError, match=r"model\.safetensors cannot be read: .*delete the folder .*run and make"):
        load_snapshot(copy, 5)


@pytest.mark.parametrize(
    ("snapshots", "error", "says"),
    [
        ((13,), ValueError, r"TrainingConfig.snapshots is \(13,\); expected different steps from 0 to 12"),
        ((-1,), ValueError, "expected different steps from 0 to 12"),
        ((3, 3), ValueError, "expected different steps from 0 to 12"),
        (3, SettingTypeError, "TrainingConfig.snapshots is 3; expected a list of whole numbers"),
        (("a",), SettingTypeError, "expected a list of whole numbers"),
    ],
)
def test_impossible_snapshots_are_refused(snapshots: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        small_run(snapshots=snapshots)
