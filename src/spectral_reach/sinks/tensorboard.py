"""Rows as scalars of TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_reach.records.needed import needed
from spectral_reach.sinks.metrics import STEP, metrics_of

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """``spectral_reach/...`` scalars at the step of their row.

    Args:
        target: the ``SummaryWriter`` of your loop, which stays open, or a folder for one of our own.

    Raises:
        ImportError: tensorboard is not installed.
    """

    def __init__(self, target: SummaryWriter | str | Path) -> None:
        with needed("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._own = isinstance(target, (str, Path))
        self._writer: Any = SummaryWriter(str(target)) if isinstance(target, (str, Path)) else target
        if not isinstance(self._writer, SummaryWriter):
            raise TypeError(f"target is a {type(target).__name__}; expected a SummaryWriter or the path of a folder")

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Add the scalars of a row, and have them written."""
        for name, value in metrics_of(kind, row).items():
            self._writer.add_scalar(name, value, row[STEP])
        self._writer.flush()

    def close(self) -> None:
        """Close the writer, if it is our own."""
        if self._own:
            self._writer.close()
