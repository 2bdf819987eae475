"""Progress: a few plain lines in a log, bars on a terminal; with loss and chi_pos for runs."""

import io

import pytest
from rich.console import Console

from spectral_reach.cli import task_progress
from spectral_reach.cli.progress import RunsDisplay
from spectral_reach.cli.task_progress import TasksDisplay
from spectral_reach.studies.tasks.progress import TaskPhase, TaskProgress
from spectral_reach.studies.training.progress import Phase, Progress

RUNS = [("text-020k", 100), ("text-1M", 100)]


def progress(step: int, phase: Phase = "training", **values: float) -> Progress:
    return Progress(run="text-020k", step=step, steps=100, phase=phase, **values)


def test_a_log_gets_few_plain_lines() -> None:
    out = io.StringIO()
    with RunsDisplay(RUNS, Console(file=out, width=200)) as display:
        display(progress(0, "starting"))
        for step in range(1, 101):
            display(progress(step, loss=5.0 - step / 100, chi_pos=1.5e-6, chi_pos_unbiased=-2e-7))
        display(progress(100, "finished", loss=4.0))
    lines = out.getvalue().splitlines()
    assert len(lines) == 7  # starting, a quarter each and its beginning, finished
    assert "\x1b" not in out.getvalue()
    assert lines[1] == "text-020k  training  step 1 of 100  loss 4.990  chi_pos 1.50e-06  unbiased -2.0e-07"
    assert lines[-1] == "text-020k  finished  step 100 of 100  loss 4.000"


@pytest.mark.parametrize(("width", "has_unbiased"), [(120, True), (80, False)])
def test_a_terminal_gets_a_bar_for_each_run_in_one_line(width: int, has_unbiased: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=width)
    with RunsDisplay(RUNS, console) as display:
        display(progress(50, loss=4.5, chi_pos=1.5e-6, chi_pos_unbiased=1e-7))
    last = [line for line in out.getvalue().splitlines() if "text-020k" in line][-1]
    assert "50/100" in last
    assert "loss 4.500  chi_pos 1.50e-06" in last
    assert ("unbiased +1.0e-07" in last) is has_unbiased
    assert "text-1M" in out.getvalue()


def test_the_terminal_comes_back_when_something_raises() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with pytest.raises(KeyboardInterrupt), RunsDisplay(RUNS, console):
        raise KeyboardInterrupt
    assert out.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown again


TASKS = [("draws-000", 60.0), ("draws-100", 30.0), ("spectrum", 10.0)]


def of_task(task: str, share: float, phase: TaskPhase = "working") -> TaskProgress:
    return TaskProgress(task=task, share=share, phase=phase)


def test_a_log_gets_a_line_when_a_task_begins_and_ends_and_now_and_then_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(task_progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with TasksDisplay(TASKS, Console(file=out, width=200)) as display:
        display(of_task("done-before", 1.0, "finished"))
        for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
            display(of_task("draws-000", share))
            now[0] += 10.0
        display(of_task("draws-000", 1.0, "finished"))
        display(of_task("draws-100", 0.0))
        display(of_task("draws-100", 0.0, "failed"))
    assert out.getvalue().splitlines() == [
        "draws-000  working   task 1 of 3  0%",
        "draws-000  working   task 1 of 3  30%",
        "draws-000  finished  task 1 of 3",
        "draws-100  working   task 2 of 3  0%",
        "draws-100  failed    task 2 of 3",
    ]


def test_a_terminal_gets_one_bar_for_all_tasks() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=100)
    with TasksDisplay(TASKS, console) as display:
        display(of_task("draws-000", 0.0, "failed"))
        display(of_task("draws-100", 0.5))
    last = [line for line in out.getvalue().splitlines() if "draws-100" in line][-1]
    assert "1 failed" in last
    assert "task 2 of 3" in last
    # 60 of 100 expected seconds are behind, and half of 30: three quarters of 24 columns.
    assert last.count("━") - last.count("╺") == 24 or last.count("━") >= 18


def test_no_task_no_bar() -> None:
    out = io.StringIO()
    with TasksDisplay([], Console(file=out, force_terminal=True, color_system=None, width=100)):
        pass
    assert "tasks" not in out.getvalue()
