"""The tensors of a user's batch, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def with_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch of the same structure with ``change(tensor)`` for each tensor; what is no tensor stays as it is."""
    # Mappings of other kinds (``BatchEncoding``) are leaves of a tree.
    whole = dict(batch) if isinstance(batch, Mapping) else batch
    return pytree.tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, whole)
