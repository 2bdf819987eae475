"""Runs at work: a bar a run on a terminal, a few plain lines a run anywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from spectral_reach.studies.training.progress import Progress

_LINES_A_RUN = 4
_ROOMY = 100
"""Columns of a terminal that has room for every value."""
_COLOUR = {"finished": "green", "failed": "red"}


class RunsDisplay:
    """Shows the ``Progress`` that it is called with; a context manager, so that the terminal comes back whole."""

    def __init__(self, runs: Iterable[tuple[str, int]], console: Console) -> None:
        """``runs``: name and steps of each run, in the order in which they are shown."""
        runs = list(runs)
        self._shown: Shown = Bars(runs, console) if console.is_terminal else Lines(runs, console)

    def __call__(self, progress: Progress) -> None:
        """Show how far a run is."""
        self._shown.update(progress)

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()


class Lines:
    """For logs: a line when a run starts or ends, and a few on the way."""

    def __init__(self, runs: list[tuple[str, int]], console: Console) -> None:
        self._console = console
        self._width = max((len(name) for name, _ in runs), default=0)
        self._last: dict[str, tuple[str, int]] = {}

    def start(self) -> None:
        """Nothing to set up."""

    def stop(self) -> None:
        """Nothing to take down."""

    def update(self, progress: Progress) -> None:
        """Print the news if there are any: another phase, or another quarter of the steps."""
        news = (progress.phase, progress.step * _LINES_A_RUN // max(progress.steps, 1))
        if self._last.get(progress.run) == news:
            return
        self._last[progress.run] = news
        head = f"{progress.run:<{self._width}}  {progress.phase:<8}  step {progress.step} of {progress.steps}"
        self._console.print(escape("  ".join([head, *_values(progress)])))


class Bars:
    """For people: a bar for each run, redrawn in place."""

    def __init__(self, runs: list[tuple[str, int]], console: Console) -> None:
        self._roomy = console.width >= _ROOMY
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24 if self._roomy else 10),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[values]}"),
            bars.TimeRemainingColumn(compact=True),
            console=console,
            refresh_per_second=4,
        )
        self._tasks = {
            name: self._bars.add_task(f"[dim]{escape(name)}[/dim]", total=steps, values="", start=False)
            for name, steps in runs
        }

    def start(self) -> None:
        """Draw the bars."""
        self._bars.start()

    def stop(self) -> None:
        """Leave them as they are and give the terminal back."""
        self._bars.stop()

    def update(self, progress: Progress) -> None:
        """Move the run's bar."""
        task = self._tasks[progress.run]
        if progress.phase != "starting":
            self._bars.start_task(task)
        colour, name = _COLOUR.get(progress.phase), escape(progress.run)
        self._bars.update(
            task,
            completed=progress.step,
            description=name if colour is None else f"[{colour}]{name}[/{colour}]",
            values=escape("  ".join(_values(progress)[: None if self._roomy else 2])),
        )


Shown = Bars | Lines


def _values(progress: Progress) -> list[str]:
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.3f}")
    if progress.chi_pos is not None:
        parts.append(f"chi_pos {progress.chi_pos:.2e}")
    if progress.chi_pos_unbiased is not None:
        parts.append(f"unbiased {progress.chi_pos_unbiased:+.1e}")
    return parts
