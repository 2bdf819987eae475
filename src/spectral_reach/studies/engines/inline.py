"""Runs in this process, one after another: no start of another process, and a debugger sees everything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectral_reach.records.errors import RecordError
from spectral_reach.studies.engines.errors import reason_of
from spectral_reach.studies.engines.queue import RunQueue
from spectral_reach.studies.training.interruption import stop_requests
from spectral_reach.studies.training.progress import OnProgress, ignore
from spectral_reach.studies.worker import execute


def run_all(runs: Sequence[Path], *, on_progress: OnProgress = ignore) -> None:
    """Bring every run folder to its end, the most compute first of those that can begin.

    Finished runs are skipped, others go on from their checkpoint. On Ctrl-C the run in hand writes a checkpoint and
    KeyboardInterrupt is raised. What kills one run kills all: processes of their own (``local``) are safer.

    Raises:
        RunsFailedError: some runs failed, with the end of each one's traceback, or need one that did; the others have
            finished. A ``FoldersRefusedError`` if all that failed is reading or writing their folders.
        RecordError: a folder cannot be read.
        ValueError: a run needs one that is neither here nor finished.
    """
    from transformers.utils import logging

    quiet: Any = logging.disable_progress_bar  # transformers leaves it without types
    quiet()
    queue = RunQueue(runs, on_progress)
    with stop_requests() as should_stop:
        while not should_stop() and (run := queue.take()) is not None:
            on_progress(run.progress("starting"))
            try:
                finished = execute(run.folder, should_stop=should_stop, on_progress=on_progress)
            except Exception as error:
                on_progress(run.progress("failed"))
                queue.fail(run, reason_of(error), refused=isinstance(error, RecordError))
                continue
            if finished:
                on_progress(run.ended())
                queue.finish(run)
    if should_stop():  # in whatever the run in hand was doing, its last step too
        raise KeyboardInterrupt
    queue.raise_failures()
