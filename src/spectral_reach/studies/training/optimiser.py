"""AdamW (Loshchilov and Hutter 2019) and its state as named tensors, so that a checkpoint needs no pickle."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from spectral_reach.studies.training.config import TrainingConfig


def adamw(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW whose weight decay touches matrices only; the learning rate is set anew before every step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2))


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state per parameter as ``optimiser/PARAMETER/ENTRY``."""
    return {
        f"{_PREFIX}/{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what ``optimiser_tensors`` took out."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        if key.startswith(f"{_PREFIX}/"):
            _, name, entry = key.split("/")
            optimiser.state[parameters[name]][entry] = value.clone()


_PREFIX = "optimiser"
