"""What the first of several processes can measure by itself, while the others wait for it."""

from __future__ import annotations

import torch
from torch import nn

from spectral_reach.measured.sharding import check_whole


def check_measurable_alone(model: nn.Module) -> None:
    """Refuse a model whose forward pass would wait for other processes. To be called in all of them.

    Raises:
        ValueError: its parameters are shared out, or it synchronises batch statistics.
    """
    check_whole(model)
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    if torch.distributed.get_world_size() == 1:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise ValueError(
                f"{name!r} is a SyncBatchNorm, and the first process measures alone: its forward pass would wait for "
                "the others forever; expected batch statistics of each process: train without sync_batchnorm, or "
                "measure checkpoints of the training"
            )
