"""What a Ray worker does: one run, in a process that Ray has placed somewhere, told to stop and asked how far it is."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.run_log import FORMAT, RunLog
from spectral_reach.studies.training.progress import Progress
from spectral_reach.studies.worker import execute

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        failure: why it failed; None if it is finished or was asked to stop.
        refused: whether a folder that cannot be read or written is to blame.
        latest: what the run said last, if anything.
    """

    failure: str | None = None
    refused: bool = False
    latest: Progress | None = None


class RayWorker:
    """An actor of Ray with threads for two calls: ``execute`` takes as long as the run, the others answer at once."""

    def __init__(self, directory: Path) -> None:
        """``directory``: where the study was started; relative paths in its settings and variables begin there."""
        self._directory = directory
        self._latest: Progress | None = None
        self._stop = threading.Event()

    def execute(self, folder: Path, patience: float) -> Outcome:
        """Bring the run in ``folder`` to its end, or to a checkpoint once ``stop`` is called.

        ``patience``: seconds to wait for a worker that was lost to let go of the folder.
        """
        log = RunLog(folder)
        try:
            with _logged_to(log):
                try:
                    with RunFolder.open(folder).lock(timeout=patience):
                        pass
                    _work_in(self._directory)
                    execute(folder, should_stop=self._stop.is_set, on_progress=self._keep)
                except RecordError as error:
                    _log.error("%s", error)
                    raise
                except Exception:
                    _log.exception("the run failed:")
                    return Outcome(failure=log.failure("it failed in its Ray worker"), latest=self._latest)
        except RecordError as error:
            return Outcome(failure=str(error), refused=True, latest=self._latest)
        return Outcome(latest=self._latest)

    def latest(self) -> Progress | None:
        """How far the run is; None before its first step."""
        return self._latest

    def stop(self) -> None:
        """Ask for a checkpoint and an end."""
        self._stop.set()

    def _keep(self, progress: Progress) -> None:
        self._latest = progress


def _work_in(directory: Path) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        raise ValueError(
            f"The study was started in {directory}, where this node cannot work: {error.strerror}; expected every node "
            "to see that directory. Start the study in one that they all see."
        ) from error


@contextmanager
def _logged_to(log: RunLog) -> Iterator[None]:
    """Everything that is logged in this process goes to the log of the run, as from a process of the local engine."""
    root = logging.getLogger()
    with log.open():  # says what is wrong with the file as every other file of a run does
        handler = logging.FileHandler(log.path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
