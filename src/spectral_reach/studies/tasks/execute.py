"""The tasks of a study, one after another in this process: each finished one is on disk for good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from spectral_reach.records.errors import RecordError
from spectral_reach.records.results import Results
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError, reason_of
from spectral_reach.studies.tasks.progress import OnTaskProgress, TaskPhase, TaskProgress, ignore
from spectral_reach.studies.tasks.task import Task
from spectral_reach.studies.tasks.usage import write_task_seconds
from spectral_reach.studies.threads import threads_of_torch


def run_tasks(study: Path, tasks: Sequence[Task], *, threads: int, on_progress: OnTaskProgress = ignore) -> None:
    """Do every task that has no result yet, in order, with ``threads`` threads of torch; for who holds the study.

    A kill or Ctrl-C loses the task in hand and no other.

    Raises:
        RunsFailedError: some tasks failed, with the end of each one's traceback; the others have been done. A
            ``FoldersRefusedError`` if all that failed is reading or writing files.
        ForeignFolderError: there is the result of a task of the same name and other settings; nothing has been done.
        ValueError: ``threads`` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; expected at least 1.")
    results = Results(study)
    results.remove_leftovers()
    before = done(study, tasks)
    failures: dict[str, str] = {}
    refused: set[str] = set()
    with threads_of_torch(threads):
        for task in tasks:

            def tell(share: float, phase: TaskPhase = "working", name: str = task.name) -> None:
                on_progress(TaskProgress(task=name, share=share, phase=phase))

            if task.name in before:
                tell(1.0, "finished")
                continue
            tell(0.0)
            try:
                began = time.monotonic()
                values = task.settings.execute(study, tell)
                # Before the result, so that whatever has a result has a record too.
                write_task_seconds(study, task.name, time.monotonic() - began)
                results.save(task.as_dict(), values)
            except Exception as error:
                failures[task.name] = reason_of(error)
                if isinstance(error, RecordError):
                    refused.add(task.name)
                tell(0.0, "failed")
            else:
                tell(1.0, "finished")
    if failures:
        kind = FoldersRefusedError if failures.keys() == refused else RunsFailedError
        raise kind(failures, of=len(tasks), what="tasks")


def done(study: Path, tasks: Sequence[Task]) -> frozenset[str]:
    """The names of the tasks that have their result.

    Raises:
        ForeignFolderError: there is the result of a task of the same name and other settings.
        RecordError: a result cannot be read.
    """
    results = Results(study)
    return frozenset(task.name for task in tasks if results.has(task.as_dict()))
