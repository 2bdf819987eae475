"""One run in a process of its own: ``python -m spectral_reach.studies.worker RUN_FOLDER``.

Stdin is a pipe that the parent holds open and never writes to: at its end the parent is gone, and the worker goes
too. Stdout carries a line of JSON for each ``Progress``, and at the end one with ``REFUSED`` where a folder refused to
be read or written: a log on the same full disk could not say so. What is logged goes to stderr. SIGTERM asks for a
checkpoint and an end. Exit codes: ``ExitCode``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

from spectral_reach.records.errors import RecordError
from spectral_reach.studies.training.progress import OnProgress, Progress, ignore

REFUSED = "refused"

_SECONDS_BETWEEN_LINES = 0.2

log = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """How a worker ended; any other code is a failure."""

    FINISHED = 0
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


def main(folder: Path) -> ExitCode:
    """Execute one run as the process of a parent that listens."""
    from spectral_reach.studies.training.interruption import stop_requests

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    channel = _private_stdout()
    try:
        with stop_requests() as should_stop:
            finished = execute(folder, should_stop=should_stop, on_progress=_reporter(channel))
    except RecordError as error:
        log.error("%s", error)
        _send(channel, {REFUSED: str(error)})
        return ExitCode.FOLDER
    return ExitCode.FINISHED if finished else ExitCode.STOPPED


def _leave_with_parent() -> None:
    # Unbuffered: at interpreter shutdown a thread that sits in a buffered read is fatal.
    while os.read(sys.stdin.fileno(), 1):
        pass
    # Not sys.exit: that ends this thread only. A run can be killed at any instant, so nothing needs tidying up.
    os._exit(ExitCode.PARENT_GONE)


def _private_stdout() -> TextIO:
    """The pipe to the parent; whatever a library prints to stdout goes to stderr from now on."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return channel


def _reporter(channel: TextIO) -> OnProgress:
    """Writes progress, but only a few lines a second; every measurement and the last step among them."""
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
    sys.exit(main(Path(sys.argv[1])))
