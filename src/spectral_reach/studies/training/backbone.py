"""The frozen backbone of a linear probe: random, or what another run of the study has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from spectral_reach.records.errors import RecordError
from spectral_reach.records.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def freeze_backbone(model: nn.Module, readout: nn.Module) -> None:
    """Leave the readout alone to be trained, and to be measured.

    Raises:
        ValueError: the readout shares its weight with another layer, so that the backbone would change with it.
    """
    trained = {id(parameter) for parameter in readout.parameters()}
    if sum(id(parameter) in trained for _, parameter in model.named_parameters(remove_duplicate=False)) > len(trained):
        raise ValueError(
            "The readout is tied to the token embedding; expected one of its own, for a probe leaves the backbone "
            "as it is: set tied to false in the model of the probe."
        )
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in trained)


def load_backbone(run: Path, model: PreTrainedModel, readout: nn.Module) -> None:
    """Put the final weights of the run folder ``run`` into all of ``model`` but its readout.

    Raises:
        RecordError: the run is not finished, its weights cannot be read, or they are of another architecture.
    """
    folder = RunFolder.open(run)
    checkpoint = folder.checkpoints.latest()
    if not folder.is_finished or checkpoint is None:
        raise RecordError(f"{run} is not finished; expected the final weights of a backbone: run that one first.")
    file = checkpoint.path / "model.safetensors"
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise RecordError(
            f"{file} cannot be read: {error}. Restore it from a copy, or delete the folder {run} and make the "
            "run again."
        ) from error
    own = {id(parameter) for parameter in readout.parameters()}
    wanted = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in own}
    if unfit := sorted(name for name in wanted if name not in stored or stored[name].shape != wanted[name].shape):
        raise RecordError(
            f"{file} has no weight {unfit[0]} of shape {tuple(wanted[unfit[0]].shape)}; expected a backbone of the "
            "same architecture. Plan the probe with the model of that run."
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(stored[name])
