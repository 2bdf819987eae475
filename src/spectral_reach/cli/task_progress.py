"""Tasks at work: one bar for all of them on a terminal, a few plain lines a task anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from spectral_reach.studies.tasks.progress import TaskProgress

_SECONDS_BETWEEN_LINES = 30.0


class TasksDisplay:
    """Shows the ``TaskProgress`` that it is called with; a context manager, so that the terminal comes back whole."""

    def __init__(self, tasks: Iterable[tuple[str, float]], console: Console) -> None:
        """``tasks``: name and expected seconds of each task that is to be done, in order."""
        tasks = list(tasks)
        self._shown: TaskBar | TaskLines = (
            TaskBar(tasks, console) if console.is_terminal else TaskLines([name for name, _ in tasks], console)
        )

    def __call__(self, progress: TaskProgress) -> None:
        """Show how far a task is; one that was done before is not shown."""
        self._shown.update(progress)

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()


class TaskLines:
    """For logs: a line when a task begins and when it ends, and now and then on the way."""

    def __init__(self, tasks: list[str], console: Console) -> None:
        self._console = console
        self._numbers = {name: number for number, name in enumerate(tasks, start=1)}
        self._width = max(map(len, tasks), default=0)
        self._last: tuple[str, str] | None = None
        self._told = 0.0

    def start(self) -> None:
        """Nothing to set up."""

    def stop(self) -> None:
        """Nothing to take down."""

    def update(self, progress: TaskProgress) -> None:
        """Print the news if there are any: another task or phase, or some of the work after some time."""
        news, now = (progress.task, progress.phase), time.monotonic()
        recent = news == self._last and now - self._told < _SECONDS_BETWEEN_LINES
        if progress.task not in self._numbers or recent:
            return
        self._last, self._told = news, now
        head = f"{progress.task:<{self._width}}  {progress.phase:<8}"
        share = f"  {progress.share:.0%}" if progress.phase == "working" else ""
        self._console.print(
            escape(f"{head}  task {self._numbers[progress.task]} of {len(self._numbers)}{share}"), soft_wrap=True
        )


class TaskBar:
    """For people: one bar, in expected time, with the task in hand."""

    def __init__(self, tasks: list[tuple[str, float]], console: Console) -> None:
        self._numbers = {name: number for number, (name, _) in enumerate(tasks, start=1)}
        self._seconds = dict(tasks)
        self._before = 0.0
        self._failed = 0
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.TextColumn("{task.fields[values]}"),
            bars.TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
        )
        self._bar = self._bars.add_task("tasks", total=sum(self._seconds.values()), values="", visible=bool(tasks))

    def start(self) -> None:
        """Draw the bar."""
        self._bars.start()

    def stop(self) -> None:
        """Leave it as it is and give the terminal back."""
        self._bars.stop()

    def update(self, progress: TaskProgress) -> None:
        """Move the bar."""
        if progress.task not in self._numbers:
            return
        seconds = self._seconds[progress.task]
        self._failed += progress.phase == "failed"
        completed = self._before + progress.share * seconds
        if progress.phase != "working":
            self._before += seconds
            completed = self._before
        failed = f"[red]{self._failed} failed[/red]  " if self._failed else ""
        self._bars.update(
            self._bar,
            completed=completed,
            description=f"{failed}{escape(progress.task)}",
            values=f"task {self._numbers[progress.task]} of {len(self._numbers)}",
        )
