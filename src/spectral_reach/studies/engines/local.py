"""Runs as processes of this machine, a few at a time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from spectral_reach.studies.engines.places import Places
from spectral_reach.studies.engines.planned_run import PlannedRun
from spectral_reach.studies.engines.queue import RunQueue
from spectral_reach.studies.engines.resources import environment_of_run
from spectral_reach.studies.engines.run_log import RunLog
from spectral_reach.studies.training.progress import OnProgress, Progress, ignore
from spectral_reach.studies.worker import REFUSED, ExitCode

_SECONDS_TO_CHECKPOINT = 30.0


def run_all(runs: Sequence[Path], *, workers: int | None = None, on_progress: OnProgress = ignore) -> None:
    """Bring every run folder to its end, ``workers`` at a time, the most compute first of those that can begin.

    Default: one on each CUDA device that torch sees, of the runs that may use one, and as many of the others as have a
    core for each of their threads; a run sees no device but its own. Finished runs are skipped, others go on from
    their checkpoint; a run begins when all that it needs are finished. On Ctrl-C the workers are asked to write a
    checkpoint; once they have, KeyboardInterrupt is raised.

    Raises:
        RunsFailedError: some runs failed, with the end of each one's log, or need one that did; the others have
            finished. A ``FoldersRefusedError`` if all that failed is reading or writing their folders.
        RecordError: a folder cannot be read, or a log not be written.
        ValueError: ``workers`` is below 1, or a run needs one that is neither here nor finished.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1 process.")
    queue = RunQueue(runs, on_progress)
    places = Places(queue.waiting, workers)
    with selectors.DefaultSelector() as selector:
        running: list[_Worker] = []
        try:
            while queue.waiting or running:
                while (run := queue.take(places.has_room_for)) is not None:
                    worker = _Worker(run, places.take(run))
                    running.append(worker)
                    selector.register(worker.stdout, selectors.EVENT_READ, worker)
                    on_progress(run.progress("starting"))
                for key, _ in selector.select():
                    worker = key.data
                    if worker.forward(on_progress):
                        continue
                    selector.unregister(worker.stdout)
                    running.remove(worker)
                    failure = worker.failure()
                    places.give_back(worker.device)
                    on_progress(replace(worker.latest, phase="finished" if failure is None else "failed"))
                    if failure is None:
                        queue.finish(worker.run)
                    else:
                        queue.fail(worker.run, failure, refused=worker.refused is not None)
        except BaseException:
            _stop(running)
            raise
    queue.raise_failures()


class _Worker:
    """A process that executes a run, and what it has said so far; ``refused`` is what a folder said at the end."""

    def __init__(self, run: PlannedRun, device: str | None) -> None:
        self.run = run
        self.device = device
        self.latest = run.progress("starting")
        self.refused: str | None = None
        self._rest = b""
        self._log = RunLog(run.folder)
        with self._log.open() as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spectral_reach.studies.worker", str(run.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment_of_run(run.threads, device)},
                # Ctrl-C in a terminal goes to the parent alone, which then asks its workers to stop.
                process_group=0,
            )

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def forward(self, on_progress: OnProgress) -> bool:
        """Hand on what the worker has written; False once it has closed its end."""
        chunk = os.read(self.stdout.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if REFUSED in message:
                self.refused = message[REFUSED]
            else:
                self.latest = Progress(**message)
                on_progress(self.latest)
        return bool(chunk)

    def failure(self) -> str | None:
        """Wait for the end; None if the run is finished, else why not."""
        code = self._wait(None)
        if code == ExitCode.FINISHED:
            return None
        if self.refused is not None:
            return self.refused
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return self._log.failure(f"its process {end}")

    def ask_to_stop(self) -> None:
        self.process.terminate()

    def _wait(self, seconds: float | None) -> int:
        try:
            return self.process.wait(seconds)
        finally:
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()

    def wait_or_kill(self, seconds: float) -> None:
        try:
            self._wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _stop(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.ask_to_stop()
    for worker in workers:
        worker.wait_or_kill(_SECONDS_TO_CHECKPOINT)
