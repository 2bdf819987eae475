"""Runs as processes of this machine, a few at a time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from spectral_reach.studies.engines.places import Places
from spectral_reach.studies.engines.planned_run import PlannedRun
from spectral_reach.studies.engines.queue import RunQueue
from spectral_reach.studies.engines.resources import environment_of_run
from spectral_reach.studies.engines.run_log import RunLog
from spectral_reach.studies.training.progress import OnProgress, Progress, ignore
from spectral_reach.studies.worker import FINISHED, LEAVING, REFUSED

_SECONDS_TO_CHECKPOINT = 30.0
_SECONDS_TO_LEAVE = 5.0


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
    with _Workers() as pool:
        while queue.waiting or pool.running:
            while (run := queue.take(places.has_room_for)) is not None:
                pool.begin(run, places.take(run))
                on_progress(run.progress("starting"))
            for worker in pool.heard():
                if worker.forward(on_progress):
                    continue
                failure = pool.end(worker)
                places.give_back(worker.device)
                if failure is None:
                    on_progress(replace(worker.latest, phase="finished", step=worker.run.steps))
                    queue.finish(worker.run)
                else:
                    on_progress(replace(worker.latest, phase="failed"))
                    queue.fail(worker.run, failure, refused=worker.refused is not None)
    queue.raise_failures()


class _Workers:
    """Processes that execute runs, and those that have done so and are kept for more.

    When it is left they all end; on an exception those that execute a run are asked for a checkpoint before.
    """

    def __init__(self) -> None:
        self.running: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.running:
            worker.ask_to_stop()
        for worker in self.running:
            worker.wait_or_kill(_SECONDS_TO_CHECKPOINT)
        while self._idle:
            self._idle.pop().dismiss()
        self._selector.close()

    def begin(self, run: PlannedRun, device: str | None) -> None:
        """Have ``run`` executed, by a process that was started for such runs if one is there."""
        worker = next((idle for idle in self._idle if idle.is_ready_for(run, device)), None)
        if worker is not None:
            worker.begin(run)
            self._idle.remove(worker)
        else:
            # There are never more processes than places for runs.
            if self._idle:
                self._idle.pop(0).dismiss()
            worker = _Worker(run, device)
        self.running.append(worker)
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)

    def heard(self) -> Iterator[_Worker]:
        """Those that have something to say, once one has."""
        for key, _ in self._selector.select():
            yield key.data

    def end(self, worker: _Worker) -> str | None:
        """The run of ``worker`` has come to an end; None if it is finished, else why not."""
        self._selector.unregister(worker.stdout)
        self.running.remove(worker)
        if worker.is_finished:
            if worker.is_leaving:
                worker.dismiss()
            else:
                self._idle.append(worker)
            return None
        return worker.failure()


class _Worker:
    """A process that executes one run at a time.

    Attributes:
        device: the CUDA device that it alone sees; None: those that its parent sees.
        run: in hand.
        latest: what the run has said last.
        is_finished: whether the run has come to its end.
        is_leaving: whether the process takes no other run after it.
        refused: what a folder said that could not be read or written.
    """

    def __init__(self, run: PlannedRun, device: str | None) -> None:
        """Start with ``run``.

        Raises:
            RecordError: its log cannot be written.
        """
        self.device = device
        self.refused: str | None = None
        self._threads = run.threads
        self._rest = b""
        self._take_up(run)
        with self._log.open() as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spectral_reach.studies.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env={**os.environ, **environment_of_run(run.threads, device)},
                # Ctrl-C in a terminal goes to the parent alone, which then asks its workers to stop.
                process_group=0,
            )
        self._ask()

    def is_ready_for(self, run: PlannedRun, device: str | None) -> bool:
        """Whether it is there, and was started for such a run."""
        return (run.threads, device) == (self._threads, self.device) and self.process.poll() is None

    def begin(self, run: PlannedRun) -> None:
        """Go on with ``run``, after one that has finished.

        Raises:
            RecordError: its log cannot be written.
        """
        self._take_up(run)
        with self._log.open():
            pass
        self._ask()

    def _take_up(self, run: PlannedRun) -> None:
        self.run = run
        self.latest = run.progress("starting")
        self.is_finished = False
        self.is_leaving = False
        self._log = RunLog(run.folder)

    def _ask(self) -> None:
        assert self.process.stdin is not None
        # A process that is killed just now does not read: the end of its stdout will tell.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(str(self.run.folder)).encode() + b"\n")

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def forward(self, on_progress: OnProgress) -> bool:
        """Hand on what the worker has written; False once its run has come to an end, or it has closed its end."""
        chunk = os.read(self.stdout.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if REFUSED in message:
                self.refused = message[REFUSED]
            elif FINISHED in message:
                self.is_finished = True
                self.is_leaving = message[LEAVING]
            else:
                self.latest = Progress(**message)
                on_progress(self.latest)
        return bool(chunk) and not self.is_finished

    def failure(self) -> str:
        """Wait for the end of a process that did not finish its run; why not."""
        code = self._wait(None)
        if self.refused is not None:
            return self.refused
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return self._log.failure(f"its process {end}")

    def ask_to_stop(self) -> None:
        """For a checkpoint and an end."""
        self.process.terminate()

    def dismiss(self) -> None:
        """End a process that has nothing to do: it ends with its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.wait_or_kill(_SECONDS_TO_LEAVE)

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
