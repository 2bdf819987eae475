"""What an engine says when runs did not come to their end."""

from __future__ import annotations

from collections.abc import Mapping

from spectral_reach.records.errors import RecordError


class RunsFailedError(RuntimeError):
    """Some runs failed; the others have finished. ``failures`` holds the reason of each by the run's name."""

    def __init__(self, failures: Mapping[str, str], of: int) -> None:
        self.failures = dict(failures)
        reasons = "\n".join(f"{name}: {reason}" for name, reason in self.failures.items())
        super().__init__(
            f"{len(self.failures)} of {of} runs failed, the others have finished. Mend the cause and repeat the "
            f"command: nothing that is finished or measured is done again.\n{reasons}"
        )


class FoldersRefusedError(RunsFailedError, RecordError):
    """Every failure is a folder that could not be read or written: the runs themselves are not to blame."""
