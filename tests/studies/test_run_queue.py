"""Which run begins next: the most compute first, none before those that it needs, none after one of them has failed."""

from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import folder_of, small_run

from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError
from spectral_reach.studies.engines.planned_run import PlannedRun
from spectral_reach.studies.engines.queue import RunQueue
from spectral_reach.studies.training.progress import Progress


def planned(tmp_path: Path, name: str, *needs: str, steps: int = 3) -> Path:
    return folder_of(replace(small_run(name, steps=steps), rate_from=needs), tmp_path / name).path


def taken(queue: RunQueue) -> PlannedRun:
    run = queue.take()
    assert run is not None
    return run


def test_the_most_compute_first_of_those_that_have_what_they_need(tmp_path: Path) -> None:
    queue = RunQueue(
        [
            planned(tmp_path, "a"),
            planned(tmp_path, "b", steps=4),
            planned(tmp_path, "c", "a", steps=9),
            planned(tmp_path, "d", "b", "c", steps=8),
        ]
    )
    assert [run.name for run in queue.waiting] == ["c", "d", "b", "a"]
    b, a = taken(queue), taken(queue)
    assert (b.name, a.name) == ("b", "a")
    assert queue.take() is None
    queue.finish(b)
    assert queue.take() is None
    queue.finish(a)
    c = taken(queue)
    assert c.name == "c"
    assert queue.take() is None
    queue.finish(c)
    assert taken(queue).name == "d"
    assert not queue.waiting
    queue.raise_failures()


@pytest.mark.parametrize("refused", [False, True])
def test_what_needs_a_run_that_failed_is_failed_and_says_for_which_it_waited(tmp_path: Path, refused: bool) -> None:
    told: list[Progress] = []
    folders = [
        planned(tmp_path, "a"),
        planned(tmp_path, "b", "a"),
        planned(tmp_path, "c", "b", "a"),
        planned(tmp_path, "d"),
    ]
    queue = RunQueue(folders, told.append)
    a = taken(queue)
    queue.fail(a, "it exploded", refused=refused)
    assert [(progress.run, progress.phase) for progress in told] == [("b", "failed"), ("c", "failed")]
    queue.finish(taken(queue))
    assert queue.take() is None
    with pytest.raises(RunsFailedError, match="3 of 4 runs failed, the others have finished") as failed:
        queue.raise_failures()
    assert failed.value.failures == {
        "a": "it exploded",
        "b": "it was not started: it needs run 'a', which has failed.",
        "c": "it was not started: it needs run 'b', which has failed.",
    }
    assert isinstance(failed.value, FoldersRefusedError) == refused


def test_a_needed_run_may_be_finished_already(tmp_path: Path) -> None:
    told: list[Progress] = []
    first, second = planned(tmp_path, "a"), planned(tmp_path, "b", "a")
    with pytest.raises(
        ValueError, match="Run 'b' needs run 'a', which is not finished; expected it to be, or to be ex"
    ):
        RunQueue([second])
    folder_of(small_run("a", steps=3), first).mark_finished({})
    assert taken(RunQueue([second])).name == "b"
    assert taken(RunQueue([first, second], told.append)).name == "b"
    assert [(progress.run, progress.phase, progress.step) for progress in told] == [("a", "finished", 3)]


def test_a_needed_run_that_is_nowhere_is_told_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Run 'b' needs run 'a', and .*a has no config\.json; expected a run folder"):
        RunQueue([planned(tmp_path, "b", "a")])


def test_runs_that_wait_for_each_other_are_refused(tmp_path: Path) -> None:
    folders = [
        planned(tmp_path, "a", "b"),
        planned(tmp_path, "b", "c"),
        planned(tmp_path, "c", "a"),
        planned(tmp_path, "d"),
    ]
    with pytest.raises(ValueError, match="Runs 'a', 'b', 'c' wait for each other; expected runs that need none which"):
        RunQueue(folders)
