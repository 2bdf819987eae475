"""Runs as processes of this machine, a few at a time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from spectral_reach.records.errors import write_errors_told
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError
from spectral_reach.studies.training.progress import OnProgress, Phase, Progress, ignore
from spectral_reach.studies.training.run_config import RunConfig
from spectral_reach.studies.worker import REFUSED, ExitCode

LOG = "log.txt"

_SECONDS_TO_CHECKPOINT = 30.0
_LINES_OF_LOG = 12
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(runs: Sequence[Path], *, workers: int | None = None, on_progress: OnProgress = ignore) -> None:
    """Bring every run folder to its end, ``workers`` at a time (default: one a core), the most compute first.

    Finished runs are skipped, others go on from their checkpoint. On Ctrl-C the workers are asked to write a
    checkpoint; once they have, KeyboardInterrupt is raised.

    Raises:
        RunsFailedError: some runs failed, with the end of each one's log; the others have finished. A
            ``FoldersRefusedError`` if all that failed is reading or writing their folders.
        RecordError: a log cannot be written.
        ValueError: ``workers`` is below 1.
    """
    if workers is None:
        workers = available_cores()
    if workers < 1:
        raise ValueError(f"workers is {workers}; expected at least 1 process.")
    waiting: deque[_Run] = deque()
    for run in sorted(map(_Run.read, runs), key=lambda run: -run.flops):
        if run.is_finished:
            on_progress(run.progress("finished"))
        else:
            waiting.append(run)
    failures: dict[str, str] = {}
    refused: set[str] = set()
    with selectors.DefaultSelector() as selector:
        running: list[_Worker] = []
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    worker = _Worker(waiting.popleft())
                    running.append(worker)
                    selector.register(worker.stdout, selectors.EVENT_READ, worker)
                    on_progress(worker.run.progress("starting"))
                for key, _ in selector.select():
                    worker = key.data
                    if worker.forward(on_progress):
                        continue
                    selector.unregister(worker.stdout)
                    running.remove(worker)
                    failure = worker.failure()
                    if failure is not None:
                        failures[worker.run.name] = failure
                        if worker.refused is not None:
                            refused.add(worker.run.name)
                    on_progress(replace(worker.latest, phase="finished" if failure is None else "failed"))
        except BaseException:
            _stop(running)
            raise
    if failures:
        kind = FoldersRefusedError if failures.keys() == refused else RunsFailedError
        raise kind(failures, of=len(runs))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    folder: Path
    name: str
    steps: int
    flops: int
    threads: int
    is_finished: bool

    @classmethod
    def read(cls, path: Path) -> _Run:
        folder = RunFolder.open(path)
        config = RunConfig.from_dict(folder.config)
        steps = config.training.steps
        return cls(
            folder=path,
            name=config.name,
            steps=steps,
            flops=config.spent(steps)["flops"],
            threads=config.threads,
            is_finished=folder.is_finished,
        )

    def progress(self, phase: Phase) -> Progress:
        return Progress(run=self.name, step=self.steps if self.is_finished else 0, steps=self.steps, phase=phase)


class _Worker:
    """A process that executes a run, and what it has said so far; ``refused`` is what a folder said at the end."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.latest = run.progress("starting")
        self.refused: str | None = None
        self._rest = b""
        log = run.folder / LOG
        self._log_start = log.stat().st_size if log.exists() else 0
        with _appended(log) as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "spectral_reach.studies.worker", str(run.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(run.threads),
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
        log = self.run.folder / LOG
        with log.open("rb") as file:
            file.seek(self._log_start)
            tail = file.read().decode("utf-8", errors="replace").strip().splitlines()[-_LINES_OF_LOG:]
        end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return "\n  ".join([f"its process {end}; the end of {log}:", *(tail or ["(nothing was logged)"])])

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


def _appended(log: Path) -> IO[bytes]:
    with write_errors_told(log):
        return log.open("ab")


def _environment(threads: int) -> dict[str, str]:
    """Threads are part of a run's configuration; nothing comes from the network; no bars in the log."""
    hugging_face = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **hugging_face, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
