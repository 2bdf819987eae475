"""Where a run computes and in which precision: no other file of training names a device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from spectral_reach.studies.data.dataset import Batch
from spectral_reach.studies.training.config import TrainingConfig


def device_of(config: TrainingConfig) -> torch.device:
    """The device that ``config.device`` stands for on this machine.

    Raises:
        ValueError: it asks for CUDA where there is none.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise ValueError(
            "TrainingConfig.device is 'cuda', and torch sees no CUDA device; expected one: choose 'auto' or 'cpu', or "
            "a machine and a build of torch with CUDA."
        )
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch on ``device``."""
    inputs, targets = batch
    return inputs.to(device), targets.to(device)


def precision_of(config: TrainingConfig, device: torch.device) -> AbstractContextManager[Any]:
    """What every forward pass of the run goes through, measured or not."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
