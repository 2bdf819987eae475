"""What a Ray worker does with a run, in this process and without Ray."""

import logging
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from killing import LONG
from small_runs import folder_of, small_run

from spectral_reach.studies.engines.ray_worker import Outcome, RayWorker


def test_it_brings_a_run_to_its_end_and_logs_like_a_process_of_its_own(tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=4), tmp_path / "run")
    root, worker = logging.getLogger(), RayWorker(Path.cwd())
    before = (root.level, list(root.handlers))
    assert worker.latest() is None
    outcome = worker.execute(folder.path, patience=0.0)
    assert outcome == Outcome(latest=worker.latest())
    assert outcome.latest is not None
    assert outcome.latest.step == 4
    assert folder.is_finished
    assert "finished at step" in (folder.path / "log.txt").read_text()
    assert (root.level, list(root.handlers)) == before


def test_it_stops_at_a_checkpoint_when_it_is_asked_to(tmp_path: Path) -> None:
    folder, worker = folder_of(LONG, tmp_path / "run"), RayWorker(Path.cwd())
    worker.stop()
    assert worker.execute(folder.path, patience=0.0).failure is None
    assert not folder.is_finished
    assert "stopped at step 0, as asked" in (folder.path / "log.txt").read_text()


def test_a_failure_comes_with_the_end_of_the_log_of_this_time(tmp_path: Path) -> None:
    config = small_run(steps=4)
    folder = folder_of(replace(config, facts={**config.facts, "data_hash": "0" * 64}), tmp_path / "run")
    (folder.path / "log.txt").write_text("what an earlier worker has said\n")
    outcome = RayWorker(Path.cwd()).execute(folder.path, patience=0.0)
    assert outcome.failure is not None
    assert not outcome.refused
    assert outcome.failure.startswith(f"it failed in its Ray worker; the end of {folder.path / 'log.txt'}:\n")
    assert "The data of run 'pixels-small' have changed" in outcome.failure
    assert "earlier" not in outcome.failure
    assert (folder.path / "log.txt").read_text().startswith("what an earlier worker has said\n")


def test_it_waits_for_a_lost_worker_to_let_go_of_the_folder_but_not_for_ever(tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=4), tmp_path / "run")
    with folder.lock():
        began = time.monotonic()
        outcome = RayWorker(Path.cwd()).execute(folder.path, patience=0.2)
        assert 0.2 <= time.monotonic() - began < 4.0
        assert outcome.refused
        assert outcome.failure is not None
        assert outcome.failure.startswith(f"{folder.path} is being written by process {os.getpid()}")

        outcomes: list[Outcome] = []
        waiting = threading.Thread(
            target=lambda: outcomes.append(RayWorker(Path.cwd()).execute(folder.path, patience=60.0))
        )
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join()
    assert [outcome.failure for outcome in outcomes] == [None]
    assert folder.is_finished


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    folder = folder_of(small_run(steps=4), tmp_path / "run")
    (folder.path / "log.txt").mkdir()
    outcome = RayWorker(Path.cwd()).execute(folder.path, patience=0.0)
    assert outcome.refused
    assert outcome.failure is not None
    assert "log.txt cannot be written: Is a directory" in outcome.failure


def test_it_works_where_the_study_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, started = tmp_path / "elsewhere", tmp_path / "started"
    elsewhere.mkdir()
    started.mkdir()
    monkeypatch.chdir(elsewhere)  # and back at the end
    assert (
        RayWorker(started).execute(folder_of(small_run(steps=3), tmp_path / "run").path, patience=0.0).failure is None
    )
    assert Path.cwd() == started

    missing = tmp_path / "missing"
    outcome = RayWorker(missing).execute(folder_of(small_run(steps=3), tmp_path / "another").path, patience=0.0)
    assert outcome.failure is not None
    assert not outcome.refused
    said = f"The study was started in {missing}, where this node cannot work: No such file or directory; expected every"
    assert said in outcome.failure
