"""A run that is long enough to be caught in the middle, and what kills the process that executes it."""

import os
import signal
from pathlib import Path

from small_runs import small_run

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.training.progress import Progress

CHECKPOINT = 50
LONG = small_run("pixels-long", steps=500, checkpoint_every=CHECKPOINT)


def holder_of(folder: Path) -> int:
    """The process that writes the run."""
    said = (folder / ".lock-holder").read_text().split()
    assert said[:1] == ["process"]
    return int(said[1])


def sittings(folder: Path) -> list[int]:
    """The step from which the run was taken up, each time."""
    lines = (folder / "log.txt").read_text().splitlines()
    return [int(line.split(" from step ")[1].split()[0]) for line in lines if " from step " in line]


class KillsTheWorker:
    """Kills the process of a run, ``times`` times, each time when it has got beyond another checkpoint.

    Attributes:
        left: how many times are left.
        checkpoints: the latest at each kill.
    """

    def __init__(self, folder: RunFolder, times: int) -> None:
        self.left = times
        self.checkpoints: list[int] = []
        self._folder = folder

    def __call__(self, progress: Progress) -> None:
        latest = self._folder.checkpoints.latest()
        step = 0 if latest is None else latest.step
        is_further = step > max(self.checkpoints, default=0) and progress.step >= step
        if self.left and is_further and progress.phase == "training":
            os.kill(holder_of(self._folder.path), signal.SIGKILL)
            self.left -= 1
            self.checkpoints.append(step)
