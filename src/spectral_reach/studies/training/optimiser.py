"""The optimisers, and their state as named tensors, so that a checkpoint needs no pickle.

AdamW: Loshchilov and Hutter 2019. Each parameter's learning rate is the run's times the factor that its model asks for
(``ModelConfig.rate_factors``); decoupled weight decay is multiplied with the rate, and so with that factor too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import nn

from spectral_reach.studies.training.config import TrainingConfig


def optimiser_of(
    model: nn.Module, config: TrainingConfig, rate_factors: Mapping[str, float]
) -> torch.optim.AdamW | torch.optim.SGD:
    """The optimiser of the parameters that are trained; ``set_rate`` sets its rate before every step.

    Weight decay touches matrices only. ``rate_factors`` are by name of the parameter, 1 where there is none.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[rate_factors.get(name, 1.0), parameter.ndim >= 2].append(parameter)
    made = [
        {"params": parameters, "factor": factor, "weight_decay": config.weight_decay if decays else 0.0}
        for (factor, decays), parameters in groups.items()
    ]
    if config.optimiser == "sgd":
        return torch.optim.SGD(made, lr=config.learning_rate, momentum=config.momentum)
    return torch.optim.AdamW(made, lr=config.learning_rate, betas=(config.beta1, config.beta2))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give each group ``rate`` times its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state per parameter as ``optimiser/PARAMETER/ENTRY``."""
    return {
        f"{_PREFIX}/{name}/{entry}": value
        for name, parameter in model.named_parameters()
        for entry, value in optimiser.state.get(parameter, {}).items()
        if value is not None  # SGD without momentum
    }


def restore_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what ``optimiser_tensors`` took out, beside the parameters but for AdamW's count of steps."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        if key.startswith(f"{_PREFIX}/"):
            _, name, entry = key.split("/")
            kept = value.clone() if entry == "step" else value.to(parameters[name].device, copy=True)
            optimiser.state[parameters[name]][entry] = kept


_PREFIX = "optimiser"
