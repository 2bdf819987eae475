"""What a long computation says of itself while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and what there is to do, in directions or in steps."""


def ignore(done: int, total: int) -> None:
    """For callers that do not watch."""


@contextmanager
def shown(progress: bool | OnProgress, description: str) -> Iterator[OnProgress]:
    """The function to report to: the caller's own, or one that moves a bar on the terminal's error stream.

    Raises:
        TypeError: it is neither a switch nor a function.
    """
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, bool):
        raise TypeError(f"progress is {progress!r}; expected True, False or a function (done, total) -> None")
    if not progress:
        yield ignore
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
