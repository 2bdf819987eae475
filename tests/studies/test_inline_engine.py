"""Runs in this process: the same files as from processes of their own, failures told, Ctrl-C heard."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import contents, folder_of, small_run

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines import inline, local
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError
from spectral_reach.studies.engines.options import EngineOptions
from spectral_reach.studies.engines.registry import engine
from spectral_reach.studies.training.progress import Progress


@pytest.mark.slow
def test_the_files_are_those_of_the_local_engine(tmp_path: Path) -> None:
    names = ("first", "second")
    here = [folder_of(small_run(name), tmp_path / "here" / name).path for name in names]
    there = [folder_of(small_run(name), tmp_path / "there" / name).path for name in names]
    told: list[Progress] = []
    engine(EngineOptions(engine="inline"))(here, on_progress=told.append)
    local.run_all(there, workers=1)
    for one, other in zip(here, there, strict=True):
        assert contents(one) == contents(other)
    assert [each.run for each in told if each.phase == "finished"] == ["first", "second"]
    engine(EngineOptions(engine="inline"))(here, on_progress=told.append)
    assert [each.phase for each in told[-2:]] == ["finished", "finished"]


def test_a_run_comes_after_what_it_needs_and_fails_with_it(tmp_path: Path) -> None:
    probe = replace(small_run("probe", trained="readout"), backbone="full")
    folders = [folder_of(config, tmp_path / config.name).path for config in (probe, small_run("full"))]
    inline.run_all(folders)
    assert all(RunFolder.open(folder).is_finished for folder in folders)
    wild = small_run("wild", learning_rate=1e30, warmup_steps=0, clip_norm=1e30, optimiser="sgd")
    after = replace(small_run("after", trained="readout"), backbone="wild")
    fine = small_run("fine")
    folders = [folder_of(config, tmp_path / config.name).path for config in (wild, after, fine)]
    with pytest.raises(RunsFailedError) as failed:
        inline.run_all(folders)
    assert failed.value.failures.keys() == {"wild", "after"}
    assert "Traceback" in failed.value.failures["wild"]
    assert "it needs run 'wild', which has failed" in failed.value.failures["after"]
    assert RunFolder.open(tmp_path / "fine").is_finished


@pytest.mark.slow
def test_a_folder_that_is_held_is_told_as_that(tmp_path: Path) -> None:
    folder = folder_of(small_run(), tmp_path / "run")
    with folder.lock(), pytest.raises(FoldersRefusedError, match="is being written by process"):
        inline.run_all([folder.path])


def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    undisturbed = folder_of(small_run(), tmp_path / "undisturbed")
    inline.run_all([undisturbed.path])
    folder = folder_of(small_run(), tmp_path / "stopped")

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        inline.run_all([folder.path], on_progress=stop)
    latest = folder.checkpoints.latest()
    assert latest is not None
    assert latest.step == 4
    inline.run_all([folder.path])
    assert contents(folder.path) == contents(undisturbed.path)


def test_ctrl_c_in_the_last_step_is_not_forgotten(tmp_path: Path) -> None:
    folders = [folder_of(small_run(name, steps=steps), tmp_path / name) for name, steps in (("first", 4), ("other", 3))]
    told: list[Progress] = []

    def stop(progress: Progress) -> None:
        told.append(progress)
        if (progress.step, progress.phase) == (progress.steps, "training"):
            signal.raise_signal(signal.SIGINT)

    for finished in (1, 2):  # with a run that is left to do, and with none
        with pytest.raises(KeyboardInterrupt):
            inline.run_all([folder.path for folder in folders], on_progress=stop)
        assert sum(folder.is_finished for folder in folders) == finished
    assert [progress.run for progress in told if progress.phase == "starting"] == ["first", "other"]


def test_it_executes_one_run_at_a_time() -> None:
    assert EngineOptions(engine="inline").at_once(1) == 1
    with pytest.raises(ValueError, match="workers is 2 with the engine 'inline'; expected 1"):
        EngineOptions(engine="inline", workers=2)
