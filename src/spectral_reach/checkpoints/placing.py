"""A batch to where its network is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree


def placed(batch: Any, network: nn.Module) -> Any:
    """The batch on the network's device; inputs that are real numbers in its precision, targets as they are.

    ``batch`` is ``(inputs, targets)`` or a mapping with ``labels``.
    """
    first = next(network.parameters())

    def inputs(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(first.device, first.dtype if value.dtype.is_floating_point else None)

    def targets(value: Any) -> Any:
        return value.to(first.device) if isinstance(value, Tensor) else value

    if isinstance(batch, Mapping):
        return {name: pytree.tree_map(targets if name == "labels" else inputs, value) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return pytree.tree_map(inputs, batch[0]), targets(batch[1])
    return batch
