"""What a tracker hands its rows to, besides its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Sink(Protocol):
    """A file or dashboard. Those that come with the package are in ``spectral_reach.sinks``.

    A row may come twice: a process that is killed between a sink and the table takes its measurement again.
    """

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Take a row; ``kind`` is ``"measurement"`` or ``"update"``, ``row["step"]`` says where it belongs, and
        ``row["batch"]``, if there is one, which named batch or pair it is of."""

    def close(self) -> None:
        """No row comes any more. What the caller has opened stays open."""
