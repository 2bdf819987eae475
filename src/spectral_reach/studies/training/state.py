"""The state of training as a checkpoint: weights in Hugging Face form, everything else as named tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from spectral_reach.records.checkpoints import Checkpoints
from spectral_reach.studies.training.optimiser import optimiser_tensors, restore_optimiser

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_GENERATOR = "generator/torch"
_CUDA_GENERATOR = "generator/cuda"


def save_state(checkpoints: Checkpoints, step: int, model: PreTrainedModel, optimiser: torch.optim.Optimizer) -> None:
    """Everything that the steps from ``step`` on depend on, besides the configuration."""
    tensors = optimiser_tensors(model, optimiser)
    tensors[_GENERATOR] = torch.get_rng_state()
    if model.device.type == "cuda":
        tensors[_CUDA_GENERATOR] = torch.cuda.get_rng_state(model.device)
    checkpoints.save(step, tensors, lambda folder: save_weights(model, folder))


def save_weights(model: PreTrainedModel, folder: Path) -> None:
    """The model in Hugging Face form, each weight under its own name.

    By default transformers writes some architectures (ViT) under the names that they once had, which only its own
    loader can turn back.
    """
    model.save_pretrained(folder, save_original_format=False)


def restore_state(checkpoints: Checkpoints, model: PreTrainedModel, optimiser: torch.optim.Optimizer) -> int:
    """Put the newest checkpoint back into model, optimiser and generators; the step it was taken at, 0 if none."""
    checkpoint = checkpoints.latest()
    if checkpoint is None:
        return 0
    checkpoint.load_weights(model)
    tensors = checkpoint.tensors()
    restore_optimiser(model, optimiser, tensors)
    torch.set_rng_state(tensors[_GENERATOR])
    # A run may go on on another kind of device; there only what is drawn differs.
    if model.device.type == "cuda" and _CUDA_GENERATOR in tensors:
        torch.cuda.set_rng_state(tensors[_CUDA_GENERATOR], model.device)
    return checkpoint.step
