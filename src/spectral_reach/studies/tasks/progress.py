"""What the tasks of a study say of themselves while they work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

TaskPhase = Literal["working", "finished", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskProgress:
    """Where a task stands.

    Attributes:
        task: its name.
        share: of it that is done, from 0 to 1.
        phase: what it is doing; a ``failed`` task is done anew the next time.
    """

    task: str
    share: float
    phase: TaskPhase


OnTaskProgress = Callable[[TaskProgress], None]


def ignore(progress: TaskProgress) -> None:
    """For callers that do not watch."""
