"""What an engine says when runs or tasks did not come to their end."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence

from spectral_reach.records.errors import RecordError

_FRAMES = 3


class RunsFailedError(RuntimeError):
    """Some runs or tasks failed; the others have finished.

    Attributes:
        failures: the reason of each by its name.
        of: how many there are altogether.
        what: they are, such as ``runs`` or ``tasks``.
    """

    def __init__(self, failures: Mapping[str, str], of: int, what: str = "runs") -> None:
        self.failures = dict(failures)
        self.of = of
        self.what = what
        reasons = "\n".join(f"{name}: {reason}" for name, reason in self.failures.items())
        super().__init__(
            f"{len(self.failures)} of {of} {what} failed, the others have finished. Mend the cause and repeat the "
            f"command: nothing that is finished or measured is done again.\n{reasons}"
        )


class EngineRefusedError(ValueError):
    """An engine cannot execute anything with the options that it was given: no cluster at an address, too few GPUs."""


class FoldersRefusedError(RunsFailedError, RecordError):
    """Every failure is a folder that could not be read or written: the runs or tasks are not to blame."""


def raise_together(failures: Sequence[RunsFailedError]) -> None:
    """Raise what has failed, if anything, as one error.

    Raises:
        RunsFailedError: what failed; a ``FoldersRefusedError`` if all are.
    """
    if len(failures) == 1:
        raise failures[0]
    if failures:
        all_refused = all(isinstance(each, FoldersRefusedError) for each in failures)
        kind = FoldersRefusedError if all_refused else RunsFailedError
        reasons = {name: reason for each in failures for name, reason in each.failures.items()}
        raise kind(reasons, of=sum(each.of for each in failures), what=" and ".join(each.what for each in failures))


def reason_of(error: Exception) -> str:
    """What a folder or a check says is told as it is; anything else with the place that it came from."""
    if isinstance(error, RecordError):
        return str(error)
    lines = "".join(traceback.format_exception(error, limit=-_FRAMES)).strip().splitlines()
    return "\n  ".join(lines)
