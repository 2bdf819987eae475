"""Runs in a process of their own, one after another: ``python -m spectral_reach.studies.worker``.

The parent writes the folder of a run to stdin, as a line of JSON, and the next one when it has heard of the end: most
of the start of a process goes into imports, which several short runs share. Stdout carries a line of JSON for each
``Progress``, one with ``FINISHED`` when a run has come to its end, which says by ``LEAVING`` whether the process takes
no other, and one with ``REFUSED`` where a folder refused to be read or written: a log on the same full disk could not
say so. What is logged or printed goes to the log of the run.
A run that fails ends the process. SIGTERM asks for a checkpoint and an end. At the end of stdin the parent is gone, or
has no more for this worker, which goes too. Exit codes: ``ExitCode``.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TextIO

from spectral_reach.records.errors import RecordError
from spectral_reach.studies.engines.run_log import FORMAT, RunLog
from spectral_reach.studies.training.progress import OnProgress, Progress, ignore

FINISHED = "finished"
LEAVING = "leaving"
REFUSED = "refused"

_SECONDS_BETWEEN_LINES = 0.2

log = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """How a worker ended; any other code is a failure of the run in hand."""

    FOLDER = 74
    STOPPED = 75
    PARENT_GONE = 76


def execute(folder: Path, *, should_stop: Callable[[], bool] = lambda: False, on_progress: OnProgress = ignore) -> bool:
    """Bring the run in ``folder`` to its end (True), or to a checkpoint once ``should_stop`` (False).

    This is all that an engine has to call, in whatever process or on whatever machine it likes.
    """
    from spectral_reach.records.run_folder import RunFolder
    from spectral_reach.studies.training.loop import train
    from spectral_reach.studies.training.run_config import RunConfig

    run = RunFolder.open(folder)
    config = RunConfig.from_dict(run.config)
    return train(run, config, config.data.load(), should_stop=should_stop, on_progress=on_progress)


def main() -> ExitCode:
    """Execute what a parent asks for, one run after another."""
    from spectral_reach.studies.training.interruption import stop_requests

    logging.basicConfig(level=logging.INFO, format=FORMAT, stream=sys.stderr)
    channel = _private_stdout()
    for folder in _asked_for():
        try:
            _write_to(RunLog(folder))
            with stop_requests() as should_stop:
                finished = execute(folder, should_stop=should_stop, on_progress=_reporter(channel))
        except RecordError as error:
            log.error("%s", error)
            _send(channel, {REFUSED: str(error)})
            return ExitCode.FOLDER
        if not finished:
            return ExitCode.STOPPED
        # What is held back of what was printed would go to the log of the next run.
        sys.stdout.flush()
        # A model and its graph may hold each other: the next run should find their memory.
        gc.collect()
        is_leaving = should_stop()  # asked for after the last step
        _send(channel, {FINISHED: str(folder), LEAVING: is_leaving})
        if is_leaving:
            return ExitCode.STOPPED
    raise AssertionError("the end of stdin ends the process")


def _asked_for() -> Iterator[Path]:
    """The folders that the parent writes, each when it comes; at the end of them this process ends."""
    folders: SimpleQueue[Path] = SimpleQueue()

    def listen() -> None:
        rest = b""
        # Unbuffered: at interpreter shutdown a thread that sits in a buffered read is fatal.
        while chunk := os.read(sys.stdin.fileno(), 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                folders.put(Path(json.loads(line)))
        # Not sys.exit: that ends this thread only. A run can be killed at any instant, so nothing needs tidying up.
        os._exit(ExitCode.PARENT_GONE)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield folders.get()


def _private_stdout() -> TextIO:
    """The pipe to the parent, under a descriptor of its own; what a library prints goes to stderr from now on."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def _write_to(log: RunLog) -> None:
    """Let stdout and stderr be ``log``.

    Raises:
        RecordError: it cannot be written.
    """
    with log.open() as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _reporter(channel: TextIO) -> OnProgress:
    """Writes progress, but only a few lines a second; the last step among them."""
    last = -_SECONDS_BETWEEN_LINES

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES and progress.step < progress.steps:
            return
        last = now
        _send(channel, asdict(progress))

    return report


def _send(channel: TextIO, message: Mapping[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


if __name__ == "__main__":
    sys.exit(main())
