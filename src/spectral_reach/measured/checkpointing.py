"""Forward passes that keep their activations, whatever activation checkpointing the model does in training.

A checkpointed part keeps its inputs only and runs again in the backward pass, where each of its tensors can be had
once. Layer rules need them beside autograd, and a measurement makes several backward passes over one forward pass, so
that keeping the activations is also the faster way. It takes the memory that checkpointing saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch.utils import checkpoint


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Within it, ``torch.utils.checkpoint`` calls its functions and does nothing else.

    Both of its ways are taken by their insides, because models keep references to its public functions.
    """
    with (
        patch.object(checkpoint, "_checkpoint_without_reentrant_generator", _plain_pass),
        patch.object(checkpoint, "CheckpointFunction", _PlainCall),
    ):
        yield


def _plain_pass(*_: Any, **__: Any) -> Iterator[None]:
    yield


class _PlainCall:
    """In place of the autograd function of reentrant checkpointing."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """The function itself."""
        return function(*args)
