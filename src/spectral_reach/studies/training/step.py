"""One update of the weights: forward and backward passes of the batch, in parts if it is large, and the optimiser."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from spectral_reach.studies.data.dataset import Batch
from spectral_reach.studies.training.config import TrainingConfig
from spectral_reach.studies.training.device import precision_of
from spectral_reach.studies.training.evaluation import logits_and_loss
from spectral_reach.studies.training.optimiser import set_rate

OnForward = Callable[[torch.Tensor, torch.Tensor], None]


def update(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    config: TrainingConfig,
    on_forward: OnForward | None = None,
) -> float:
    """Make update ``step`` and return the mean loss of its batch before it, in nats per sample.

    ``on_forward(logits, loss)`` is called between the forward and the backward pass, for who measures within the step;
    only of a batch that goes through the model whole.
    """
    assert on_forward is None or config.accumulation == 1
    inputs, targets = batch
    set_rate(optimiser, config.rate(step))
    total = 0.0
    for part in zip(inputs.chunk(config.accumulation), targets.chunk(config.accumulation), strict=True):
        with precision_of(config, inputs.device):
            logits, loss = logits_and_loss(model, part)
            if on_forward is not None:
                on_forward(logits, loss)
        # Equal parts: the mean over them is the mean over the batch.
        (loss / config.accumulation if config.accumulation > 1 else loss).backward()  # type: ignore[no-untyped-call]
        total += loss.item() / config.accumulation
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], config.clip_norm)
    optimiser.step()
    optimiser.zero_grad()
    return total
