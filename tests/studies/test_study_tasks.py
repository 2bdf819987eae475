"""Tasks of a study: each done once, whole or not at all, whatever happens to the others."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spectral_reach.records.errors import ForeignFolderError, RecordError
from spectral_reach.records.results import Results
from spectral_reach.studies.config import SettingTypeError
from spectral_reach.studies.cost import expected_cost
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError, raise_together
from spectral_reach.studies.plan import StudyPlan
from spectral_reach.studies.study_folder import read_header, write_plan
from spectral_reach.studies.tasks import Task
from spectral_reach.studies.tasks.execute import done, run_tasks
from spectral_reach.studies.tasks.progress import TaskProgress
from studies.small_tasks import Square, square

TASKS = (square(2), square(3, as_array=True), square(4))


def test_every_task_leaves_one_file_that_says_what_it_belongs_to(tmp_path: Path) -> None:
    told: list[TaskProgress] = []
    before = torch.get_num_threads()
    run_tasks(tmp_path, TASKS, threads=before + 1, on_progress=told.append)
    assert torch.get_num_threads() == before
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "square-2.json",
        "square-3.npz",
        "square-4.json",
    ]
    results = Results(tmp_path)
    assert results.names() == ("square-2", "square-3", "square-4")
    first, second = results.load("square-2"), results.load("square-3")
    assert first.task == TASKS[0].as_dict()
    assert first.task == {
        "name": "square-2",
        "kind": "square",
        "settings": {"number": 2, "as_array": False, "fails": ""},
    }
    assert first.values == {"square": 4, "undefined": None, "threads": before + 1}
    assert second.task == TASKS[1].as_dict()
    assert second.values["square"].tolist() == [9]
    assert second.values["undefined"] is None
    assert [(p.task, p.share, p.phase) for p in told[:3]] == [
        ("square-2", 0.0, "working"),
        ("square-2", 0.5, "working"),
        ("square-2", 1.0, "finished"),
    ]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    run_tasks(tmp_path, TASKS[:2], threads=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    (tmp_path / "results" / ".partial-0123-square-4.json").write_text("{")
    told: list[TaskProgress] = []
    run_tasks(tmp_path, TASKS, threads=1, on_progress=told.append)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [p.task for p in told if p.phase == "working"] == ["square-4", "square-4"]
    assert done(tmp_path, TASKS) == {"square-2", "square-3", "square-4"}
    assert not list((tmp_path / "results").glob(".*"))


def test_an_interruption_loses_the_task_in_hand_alone(tmp_path: Path) -> None:
    interrupted = (TASKS[0], square(3, fails="interrupt"), TASKS[2])
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tmp_path, interrupted, threads=1)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["square-2.json"]
    run_tasks(tmp_path, TASKS, threads=1)
    assert Results(tmp_path).names() == ("square-2", "square-3", "square-4")


def test_a_process_that_is_killed_loses_the_task_in_hand_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from spectral_reach.studies.tasks.execute import run_tasks\n"
        "from studies.small_tasks import square\n"
        "tasks = (square(2), square(3, as_array=True, fails='waits'), square(4))\n"
        "run_tasks(Path(sys.argv[1]), tasks, threads=1)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.kill()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["square-2.json"]
    before = (tmp_path / "results" / "square-2.json").stat().st_mtime_ns
    run_tasks(tmp_path, TASKS, threads=1)
    assert Results(tmp_path).names() == ("square-2", "square-3", "square-4")
    assert (tmp_path / "results" / "square-2.json").stat().st_mtime_ns == before


def test_a_failure_is_told_and_the_others_are_done(tmp_path: Path) -> None:
    told: list[TaskProgress] = []
    failing = (square(2, fails="it broke"), square(3, fails="folder"), TASKS[2])
    with pytest.raises(RunsFailedError) as failed:
        run_tasks(tmp_path, failing, threads=1, on_progress=told.append)
    text = str(failed.value)
    assert text.startswith("2 of 3 tasks failed, the others have finished. Mend the cause and repeat the command")
    assert "RuntimeError: it broke" in failed.value.failures["square-2"]
    assert "small_tasks.py" in failed.value.failures["square-2"]
    assert failed.value.failures["square-3"] == "the folder said no."
    assert not isinstance(failed.value, RecordError)
    assert Results(tmp_path).names() == ("square-4",)
    assert [(p.task, p.phase) for p in told if p.phase != "working"] == [
        ("square-2", "failed"),
        ("square-3", "failed"),
        ("square-4", "finished"),
    ]
    with pytest.raises(FoldersRefusedError, match="1 of 2 tasks failed"):
        run_tasks(tmp_path, failing[1:], threads=1)


def test_failures_of_runs_and_tasks_are_raised_as_one() -> None:
    runs, folders = RunsFailedError({"a": "x"}, of=2), FoldersRefusedError({"b": "y"}, of=3, what="tasks")
    raise_together([])
    with pytest.raises(FoldersRefusedError, match="1 of 3 tasks failed"):
        raise_together([folders])
    with pytest.raises(RunsFailedError, match=r"2 of 5 runs and tasks failed(?s:.*)a: x\nb: y") as failed:
        raise_together([runs, folders])
    assert not isinstance(failed.value, RecordError)


def test_the_result_of_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    run_tasks(tmp_path, TASKS, threads=1)
    other = Task(name="square-2", settings=Square(number=7))
    with pytest.raises(ForeignFolderError, match=r"square-2.json is the result of another task: settings.number is 2"):
        run_tasks(tmp_path, [other], threads=1)


@pytest.mark.parametrize("name", ["square-2.json", "square-3.npz"])
def test_a_damaged_result_is_told_with_a_remedy_that_helps(tmp_path: Path, name: str) -> None:
    run_tasks(tmp_path, TASKS, threads=1)
    file = tmp_path / "results" / name
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(RecordError, match=rf"{name} cannot be read: .*delete it and repeat the command"):
        run_tasks(tmp_path, TASKS, threads=1)
    file.unlink()
    run_tasks(tmp_path, TASKS, threads=1)
    assert len(Results(tmp_path).names()) == 3


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    run_tasks(tmp_path, TASKS[:1], threads=1)
    (tmp_path / "results" / "square-2.json").write_text(json.dumps({"format": "mine"}))
    with pytest.raises(ForeignFolderError, match=r"square-2.json is not a 'spectral-reach result' of version 1"):
        done(tmp_path, TASKS)


def test_a_result_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"has no result 'x'; expected x.json or x.npz. Run the study to its end"):
        Results(tmp_path).load("x")


def test_results_hold_numbers_and_text_alone(tmp_path: Path) -> None:
    task = {"name": "x"}
    with pytest.raises(ValueError, match="'x' has arrays of objects: a; expected numbers, bools or text"):
        Results(tmp_path).save(task, {"a": np.array([None])})
    with pytest.raises(ValueError, match="JSON"):
        Results(tmp_path).save(task, {"a": float("inf")})
    with pytest.raises(TypeError, match="JSON"):
        Results(tmp_path).save(task, {"a": np.zeros(3), "b": object()})
    assert Results(tmp_path).names() == ()


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    for place in ("a", "b"):
        Results(tmp_path / place).save({"name": "x"}, {"a": np.arange(5.0), "b": {"c": [1, 2.5]}})
    assert (tmp_path / "a" / "results" / "x.npz").read_bytes() == (tmp_path / "b" / "results" / "x.npz").read_bytes()


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a b"])
def test_a_name_is_that_of_a_file(name: str) -> None:
    with pytest.raises(ValueError, match=r"Task.name is .*; expected"):
        Task(name=name, settings=Square(number=1))


def test_a_kind_that_nobody_registered_is_refused() -> None:
    class Unknown:
        pass

    with pytest.raises(ValueError, match=r"Unknown is no registered kind of task; the known ones are .*square"):
        Task(name="x", settings=Unknown())  # type: ignore[arg-type]
    with pytest.raises(SettingTypeError, match=r"Task.name is 3"):
        replace(TASKS[0], name=3)


def test_a_plan_names_each_task_once_and_refuses_no_threads(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than one task named square-2; expected different names"):
        StudyPlan(study="x", preset="toy", settings={}, tasks=(TASKS[0], TASKS[0]))
    with pytest.raises(ValueError, match="threads is 0; expected at least 1"):
        run_tasks(tmp_path, TASKS, threads=0)


def test_a_study_without_runs_has_a_folder_and_a_cost(tmp_path: Path) -> None:
    plan = StudyPlan(study="x", preset="toy", settings={"a": 1}, tasks=TASKS)
    assert write_plan(tmp_path / "study", plan) == []
    assert read_header(tmp_path / "study")["tasks"] == ["square-2", "square-3", "square-4"]
    cost = expected_cost(plan, workers=1)
    assert (cost.runs, cost.parameters, cost.tasks, cost.minutes) == (0, None, 3, 1.5)
    assert str(cost) == "3 tasks, about 2 min"
    assert expected_cost(plan, workers=2).minutes < cost.minutes
    with pytest.raises(ForeignFolderError, match=r"holds another study: settings differ \(a is 1 there, 2 here\)"):
        write_plan(tmp_path / "study", replace(plan, settings={"a": 2}))
    with pytest.raises(ForeignFolderError, match="holds another study: tasks differ"):
        write_plan(tmp_path / "study", replace(plan, tasks=TASKS[:1]))
