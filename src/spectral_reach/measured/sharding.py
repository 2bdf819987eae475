"""Models of which this process holds a part only: nothing that is measured here would be of the whole."""

from __future__ import annotations

import torch
from torch import nn

_WHOLE = (
    "expected whole parameters in each process (DistributedDataParallel): measure a checkpoint of the training in one "
    "process"
)


def check_whole(model: nn.Module) -> None:
    """Refuse a model whose parameters are shared out among processes, by FSDP or as tensors of a mesh.

    Raises:
        ValueError: the first such module or parameter, by name.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    for name, module in model.named_modules():
        if isinstance(module, FullyShardedDataParallel):
            raise ValueError(f"{name or 'the model'!r} is sharded by FullyShardedDataParallel; {_WHOLE}")
    for name, parameter in model.named_parameters():
        if isinstance(parameter, DTensor):
            placements = ", ".join(map(str, parameter.placements))
            raise ValueError(f"parameter {name!r} is a DTensor ({placements}), as fully_shard makes them; {_WHOLE}")
