"""Which run begins next, which never can, and what has failed: the same for every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.errors import FoldersRefusedError, RunsFailedError
from spectral_reach.studies.engines.planned_run import PlannedRun
from spectral_reach.studies.training.progress import OnProgress, ignore


class RunQueue:
    """Runs that wait for a place and for the runs that they need.

    Runs that are finished already are told as that and never given out. Every run that waits is given out or failed
    in the end, as long as each that has been given out is reported back.
    """

    def __init__(self, folders: Sequence[Path], on_progress: OnProgress = ignore) -> None:
        """Read the run folders.

        Raises:
            ValueError: a run needs one that is neither among them nor finished, or runs need each other in a circle.
            RecordError: a folder cannot be read.
        """
        runs = [PlannedRun.read(folder) for folder in folders]
        self._of = len(runs)
        self._tell = on_progress
        self._failures: dict[str, str] = {}
        self._refused: set[str] = set()
        self._finished = {run.folder for run in runs if run.is_finished}
        self._waiting = sorted((run for run in runs if not run.is_finished), key=lambda run: -run.flops)
        self._finished |= _finished_elsewhere(self._waiting, among={run.folder for run in runs})
        _refuse_circles(self._waiting, self._finished)
        for run in runs:
            if run.is_finished:
                on_progress(run.progress("finished"))

    @property
    def waiting(self) -> Sequence[PlannedRun]:
        """Runs that have not been given out, the most compute first."""
        return self._waiting

    def take(self, has_room_for: Callable[[PlannedRun], bool] = lambda _: True) -> PlannedRun | None:
        """The run with the most compute of those that have room and all they need; None if every one has to wait."""
        for run in self._waiting:
            if self._finished.issuperset(run.needs) and has_room_for(run):
                self._waiting.remove(run)
                return run
        return None

    def finish(self, run: PlannedRun) -> None:
        """``run`` has come to its end: what waited for it may begin."""
        self._finished.add(run.folder)

    def fail(self, run: PlannedRun, reason: str, *, refused: bool) -> None:
        """``run`` has failed, and so has every run that needs it.

        ``refused``: not the run is to blame but a folder that cannot be read or written.
        """
        self._failures[run.name] = reason
        if refused:
            self._refused.add(run.name)
        for other in [each for each in self._waiting if run.folder in each.needs]:
            # A run that needs two that failed is failed by the first.
            if other in self._waiting:
                self._waiting.remove(other)
                self._tell(other.progress("failed"))
                self.fail(other, f"it was not started: it needs run {run.name!r}, which has failed.", refused=refused)

    def raise_failures(self) -> None:
        """Raise what has failed, if anything.

        Raises:
            RunsFailedError: some runs; a ``FoldersRefusedError`` if folders alone are to blame.
        """
        if self._failures:
            kind = FoldersRefusedError if self._failures.keys() == self._refused else RunsFailedError
            raise kind(self._failures, of=self._of)


def _finished_elsewhere(runs: Sequence[PlannedRun], among: set[Path]) -> set[Path]:
    """What is needed and not ``among`` the runs that are executed now: it has to be finished."""
    found = set()
    for run in runs:
        for folder in run.needs:
            if folder in among:
                continue
            try:
                is_finished = RunFolder.open(folder).is_finished
            except RecordError as error:
                raise ValueError(f"Run {run.name!r} needs run {folder.name!r}, and {error}") from error
            if not is_finished:
                raise ValueError(
                    f"Run {run.name!r} needs run {folder.name!r}, which is not finished; expected it to be, or to be "
                    f"executed now as well: add {folder}."
                )
            found.add(folder)
    return found


def _refuse_circles(waiting: Sequence[PlannedRun], finished: set[Path]) -> None:
    left, done = list(waiting), set(finished)
    while ready := [run for run in left if done.issuperset(run.needs)]:
        done |= {run.folder for run in ready}
        left = [run for run in left if run not in ready]
    if left:
        names = ", ".join(repr(run.name) for run in left)
        raise ValueError(
            f"Runs {names} wait for each other; expected runs that need none which needs them. Replan them."
        )
