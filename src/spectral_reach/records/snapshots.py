"""Weights that a run keeps for good, as Hugging Face folders: what is measured after training."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from spectral_reach.records.atomic import built_aside, fsync, make_folder, remove_leftovers
from spectral_reach.records.errors import RecordError, write_errors_told

_WEIGHTS = "model.safetensors"
_NAME = re.compile(r"step-(\d+)")


class Snapshots:
    """The snapshots of one run: ``step-000100/`` and so on in ``folder``, which the first save creates.

    Each is whole or absent. Who saves holds the lock of the run folder. Nothing is pickled.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def path(self, step: int) -> Path:
        """Where the snapshot after ``step`` updates is, or would be."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> tuple[int, ...]:
        """After how many updates there are snapshots, sorted."""
        if not self.folder.is_dir():
            return ()
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return tuple(sorted(int(match[1]) for match in names if match))

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep what ``write`` puts into the folder that it is called with; one of the same step stays as it is.

        A run that is made again from an earlier checkpoint passes the step again, with the same weights.

        Raises:
            RecordError: the operating system refuses.
        """
        target = self.path(step)
        if target.exists():
            return
        make_folder(self.folder)
        with write_errors_told(target):
            os.rename(built_aside(target, write), target)  # noqa: PTH104 - the atomic step, by its well-known name
            fsync(self.folder)

    def load_weights(self, step: int, model: nn.Module) -> None:
        """Put the weights after ``step`` updates into the model.

        Raises:
            RecordError: there are none, or they cannot be read.
        """
        file = self.path(step) / _WEIGHTS
        if not file.is_file():
            have = ", ".join(map(str, self.steps())) or "none"
            raise RecordError(
                f"{self.folder.parent} has no snapshot of step {step}: it has {have}. Let the run go on until it has "
                "made that step, or ask for one that it keeps."
            )
        try:
            load_model(model, file)
        except (OSError, SafetensorError) as error:
            raise RecordError(
                f"{file} cannot be read: {error}. It is damaged, though a save never leaves it so: restore it from a "
                f"copy, or delete the folder {self.folder.parent} and make the run again."
            ) from error

    def remove_leftovers(self) -> None:
        """Delete what killed saves left behind. Only for who holds the lock of the run folder.

        Raises:
            RecordError: the operating system refuses.
        """
        remove_leftovers(self.folder)
