"""What a long computation says of itself while it works."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and what there is to do, in directions or in steps."""


def ignore(done: int, total: int) -> None:
    """For callers that do not watch."""


@contextmanager
def shown(progress: bool | OnProgress | None, description: str) -> Iterator[OnProgress]:
    """The function to report to: the caller's own, or one that moves a bar on the standard error stream.

    None: a bar where that is a terminal.

    Raises:
        TypeError: it is neither a switch nor a function.
    """
    if callable(progress):
        yield progress
        return
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress is {progress!r}; expected True, False, None or a function (done, total) -> None")
    if not (sys.stderr.isatty() if progress is None else progress):
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
