"""What a run says of itself while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["starting", "training", "finished", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands.

    Attributes:
        run: its name.
        step: updates made.
        steps: updates to make.
        phase: what it is doing; ``failed`` runs can be resumed.
        loss: latest training loss, if any yet.
        chi_pos: latest measured spectral position of a batch.
        chi_pos_unbiased: the same without gradient noise.
    """

    run: str
    step: int
    steps: int
    phase: Phase
    loss: float | None = None
    chi_pos: float | None = None
    chi_pos_unbiased: float | None = None


OnProgress = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """For callers that do not watch."""
