"""A run that is long enough to be caught in the middle, and what kills the process that executes it."""

import os
import signal
import threading
from pathlib import Path

from small_runs import small_run

from spectral_reach.records.run_folder import RunFolder

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


def latest_checkpoint(folder: RunFolder) -> int:
    """Its step; 0 if there is none yet."""
    latest = folder.checkpoints.latest()
    return 0 if latest is None else latest.step


class KillsTheWorker:
    """Kills the process of a run, ``times`` times, each as soon as it has got to another checkpoint.

    It looks at the folder in a thread of its own, many times in the time between two checkpoints: what an engine says
    of a run comes later, maybe too late.

    Attributes:
        left: how many times are left.
        checkpoints: the latest at each kill.
    """

    def __init__(self, folder: RunFolder, times: int, *, after: int = 0) -> None:
        self.left = times
        self.checkpoints: list[int] = []
        self._folder = folder
        self._after = after
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "KillsTheWorker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.left and not self._ended.wait(0.005):
            step = latest_checkpoint(self._folder)
            if step > max(self.checkpoints, default=self._after):
                os.kill(holder_of(self._folder.path), signal.SIGKILL)
                self.left -= 1
                self.checkpoints.append(step)
