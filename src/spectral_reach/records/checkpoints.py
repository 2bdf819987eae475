"""Folders from which a run goes on: built aside, flushed, and renamed, so that each is whole or absent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file
from torch import Tensor, nn

from spectral_reach.records.atomic import (
    built_aside,
    fsync,
    make_folder,
    remove_leftovers,
    temporary_beside,
)
from spectral_reach.records.errors import RecordError, write_errors_told

_TENSORS = "state.safetensors"
_WEIGHTS = "model.safetensors"
# The second form is a checkpoint that a newer one of the same step is about to replace.
_NAME = re.compile(r"(?:step-(\d+)|\.replaced-step-(\d+))")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A finished checkpoint.

    Attributes:
        path: its folder, with everything that ``write_extra`` wrote.
        step: updates that had been made.
    """

    path: Path
    step: int

    def tensors(self) -> dict[str, Tensor]:
        """The saved tensors by name, on the CPU.

        Raises:
            RecordError: the file cannot be read.
        """
        file = self.path / _TENSORS
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise _damaged(file, error) from error

    def load_weights(self, model: nn.Module) -> None:
        """Put the weights that ``write_extra`` saved in Hugging Face form into the model.

        Raises:
            RecordError: the file cannot be read.
        """
        file = self.path / _WEIGHTS
        try:
            load_model(model, file)
        except (OSError, SafetensorError) as error:
            raise _damaged(file, error) from error


class Checkpoints:
    """The checkpoints of one run: ``step-000300/`` and so on in ``folder``, which the first save creates.

    Who saves holds the lock of the run folder. Nothing is pickled.

    Args:
        folder: where they are.
        keep: how many of the newest stay after a save.
    """

    def __init__(self, folder: Path | str, keep: int = 1) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; expected 1 or more checkpoints to keep")
        self.folder = Path(folder)
        self.keep = keep

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        write_extra: Callable[[Path], None] | None = None,
    ) -> Path:
        """Save a checkpoint durably, then delete all but the newest ``keep``.

        Killed at any instant, ``latest()`` is the one before or this one. A checkpoint of the same step is replaced.

        Args:
            step: updates that have been made.
            tensors: what goes to ``state.safetensors``: states of the optimiser, of generators, ...
            write_extra: called with the folder while it is being built, to add files of its own.

        Returns:
            The folder of the checkpoint.

        Raises:
            RecordError: the operating system refuses; the checkpoint before is untouched.
            ValueError: a negative ``step``.
        """
        if step < 0:
            raise ValueError(f"step is {step}; expected 0 or more updates")
        target = self.folder / f"step-{step:06d}"

        def write(folder: Path) -> None:
            stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(stored, folder / _TENSORS)
            if write_extra is not None:
                write_extra(folder)

        make_folder(self.folder)
        with write_errors_told(target):
            temporary = built_aside(target, write)
            self._put_in_place(temporary, target)
            self._prune()
        return target

    def latest(self) -> Checkpoint | None:
        """The newest finished checkpoint; None if there is none. Unfinished ones are passed over, not removed."""
        return next(iter(self._newest_first()), None)

    def remove_leftovers(self) -> None:
        """Delete what killed saves left behind. Only for who holds the lock of the run folder.

        Raises:
            RecordError: the operating system refuses.
        """
        remove_leftovers(self.folder)

    def _put_in_place(self, temporary: Path, target: Path) -> None:
        if target.exists():
            # No folder can be renamed over another. Between the two renames the old one still counts.
            aside = target.with_name(f".replaced-{target.name}")
            if aside.exists():
                self._delete(aside)
            os.rename(target, aside)  # noqa: PTH104 - the atomic step, by its well-known name
        os.rename(temporary, target)  # noqa: PTH104
        fsync(self.folder)

    def _prune(self) -> None:
        found = self._newest_first()
        # Replaced checkpoints do not count towards those to keep.
        whole = [each for each in found if not each.path.name.startswith(".")]
        for each in found:
            if each not in whole[: self.keep]:
                self._delete(each.path)

    def _delete(self, folder: Path) -> None:
        # Under a temporary name first: what is called a checkpoint is whole, also when a kill comes halfway.
        doomed = temporary_beside(folder)
        os.rename(folder, doomed)  # noqa: PTH104
        shutil.rmtree(doomed)

    def _newest_first(self) -> list[Checkpoint]:
        if not self.folder.is_dir():
            return []
        names = ((path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir())
        found = [Checkpoint(path=path, step=int(match[1] or match[2])) for path, match in names if match]
        return sorted(found, key=lambda each: (each.step, not each.path.name.startswith(".")), reverse=True)


def _damaged(file: Path, error: Exception) -> RecordError:
    return RecordError(
        f"{file} cannot be read: {error}. It is damaged, though a save never leaves it so: restore it from a "
        f"copy, or delete the folder {file.parent} to start the run from the checkpoint before or from step 0."
    )
