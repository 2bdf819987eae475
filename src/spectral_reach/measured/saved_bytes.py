"""How much memory the activations of a forward pass take, without taking it.

A pass with a graph asks a hook what to keep of each tensor that the backward pass will need. Here the hook counts the
tensor and keeps nothing, so that the pass itself needs no more memory than one without a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from spectral_reach.measured.checkpointing import activations_kept, checkpointed_parts


@dataclass(kw_only=True, slots=True)
class SavedBytes:
    """Of one pass.

    Attributes:
        kept: bytes that the graph keeps from the forward to the backward pass.
        largest_block: bytes that the largest part under activation checkpointing keeps while it runs again.
    """

    kept: int = 0
    largest_block: int = 0

    @property
    def total(self) -> int:
        """At the most at a time."""
        return self.kept + self.largest_block


@contextmanager
def counted(model: nn.Module, *, checkpointed: bool) -> Iterator[SavedBytes]:
    """Count what a forward pass in the body saves. To be used with gradients enabled.

    Args:
        model: its parameters and buffers are there anyway.
        checkpointed: leave activation checkpointing on; its parts keep their inputs only.
    """
    found = SavedBytes()
    graph = _Counter(own={_place_of(t) for t in (*model.parameters(), *model.buffers())})
    block: list[_Counter] = []

    def pack(tensor: Tensor) -> None:
        (block[-1] if block else graph).count(tensor)

    def region(function: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        for leaf in pytree.tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                graph.count(leaf)
        block.append(_Counter(own=graph.own))
        yield
        found.largest_block = max(found.largest_block, block.pop().bytes)

    parts = checkpointed_parts(region) if checkpointed else activations_kept(True)
    with parts, torch.autograd.graph.saved_tensors_hooks(pack, _nothing):
        try:
            yield found
        finally:
            found.kept = graph.bytes


_weak: Any = StorageWeakRef


@dataclass(kw_only=True, slots=True)
class _Counter:
    """Bytes of storages, each once for as long as it lives: addresses are used again."""

    own: set[int]
    bytes: int = 0
    _met: dict[int, Any] = field(default_factory=dict)

    def count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place = _place_of(tensor)
        if place in self.own:
            return
        met: Any = self._met.get(place)  # torch leaves these without types
        if met is not None and not met.expired():
            return
        self._met[place] = _weak(storage)
        self.bytes += storage.nbytes()


def _place_of(tensor: Tensor) -> int:
    """Where the storage itself is: its contents are nowhere on the meta device."""
    storage: Any = tensor.untyped_storage()
    place: int = storage._cdata
    return place


def _nothing(packed: object) -> Tensor:
    raise AssertionError("a pass that is only counted has no backward pass")
