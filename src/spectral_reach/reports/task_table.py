"""The tasks: which have their result, what it took, and how old it is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from spectral_reach.reports.amounts import duration, moment
from spectral_reach.reports.collected import StudyRecord, TaskState
from spectral_reach.reports.markup import Markup, element
from spectral_reach.reports.tables import Cell, number, table, text

COLUMNS = ("task", "study", "result", "time", "age")


def task_section(studies: Sequence[StudyRecord], now: float) -> Markup:
    """A table of all tasks; ``now`` is the moment of the report, in seconds since 1970."""
    rows = [_row(study.name, task, now) for study in studies for task in study.tasks]
    if not rows:
        return element("p", "These studies have no tasks after training.")
    return table("Tasks: measurements after training", COLUMNS, rows, sortable=True)


def _row(study: str, task: TaskState, now: float) -> list[Cell]:
    if task.done_at is None:
        waiting = Cell(content="not done", order="", kind="unfinished")
        return [text(task.name), text(study), waiting, number("–", math.nan), number("–", math.nan)]
    age = max(0.0, now - task.done_at)
    return [
        text(task.name),
        text(study),
        text(moment(task.done_at)),
        number(duration(task.seconds), task.seconds),
        number(duration(age), age),
    ]
