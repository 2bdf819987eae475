"""A model as a run kept it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.training.run_config import RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_snapshot(run: Path, step: int) -> tuple[PreTrainedModel, RunConfig]:
    """The model of the run folder ``run`` after ``step`` updates, in evaluation mode, and what the run was.

    Raises:
        RecordError: the run keeps no snapshot of that step, has not made it yet, or it cannot be read.
    """
    folder = RunFolder.open(run)
    config = RunConfig.from_dict(folder.config)
    model = config.model.build(config.training.seed)
    folder.snapshots.load_weights(step, model)
    model.eval()  # type: ignore[no-untyped-call] # transformers leaves it unannotated
    return model, config
