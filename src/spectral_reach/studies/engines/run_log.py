"""``log.txt`` of a run folder: what its processes have logged, and the end of it where one has failed."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from spectral_reach.records.errors import write_errors_told

FORMAT = "%(asctime)s %(message)s"

_LINES = 12


class RunLog:
    """The log of the run in ``folder``, from now on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.txt"
        self._start = self.path.stat().st_size if self.path.exists() else 0

    def open(self) -> IO[bytes]:
        """The file, to append to.

        Raises:
            RecordError: it cannot be written.
        """
        with write_errors_told(self.path):
            return self.path.open("ab")

    def failure(self, what: str) -> str:
        """``what`` happened, and the last lines that were logged before."""
        with self.path.open("rb") as file:
            file.seek(self._start)
            lines = file.read().decode("utf-8", errors="replace").strip().splitlines()[-_LINES:]
        return "\n  ".join([f"{what}; the end of {self.path}:", *(lines or ["(nothing was logged)"])])
