"""Loss on held-out units, taken without touching anything that training uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from spectral_reach.studies.data.dataset import Batch


def logits_and_loss(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, (B, T, K) or (B, K), and their mean cross entropy in nats per sample."""
    inputs, targets = batch
    logits: torch.Tensor = model(inputs).logits
    return logits, F.cross_entropy(logits.flatten(0, -2), targets.flatten())


@torch.no_grad()
def heldout_loss(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Mean cross entropy in nats per sample over all ``batches``, in evaluation mode.

    No dropout is drawn, so no generator moves; the model goes back to the mode that it was in.
    """
    training = model.training
    model.eval()
    try:
        sums = [logits_and_loss(model, batch)[1].item() * batch[1].numel() for batch in batches]
    finally:
        model.train(training)
    return sum(sums) / sum(targets.numel() for _, targets in batches)
