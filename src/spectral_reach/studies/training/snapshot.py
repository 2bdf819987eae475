"""A model as a run kept it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.training.backbone import freeze_backbone
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
    model = model_of(config)
    folder.snapshots.load_weights(step, model)
    return model, config


def model_of(config: RunConfig) -> PreTrainedModel:
    """The model of a run as it is measured, with its first weights: in evaluation mode, what is trained selected."""
    model = config.model.build(config.training.seed)
    if config.training.trained == "readout":
        freeze_backbone(model, config.model.readout(model))
    model.eval()  # type: ignore[no-untyped-call] # transformers leaves it unannotated
    return model
