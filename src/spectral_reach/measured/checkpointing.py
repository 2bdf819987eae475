"""Forward passes that keep their activations, whatever activation checkpointing the model does in training.

A checkpointed part keeps its inputs only and runs again in the backward pass, where each of its tensors can be had
once. Layer rules need them beside autograd, and a measurement makes several backward passes over one forward pass, so
that keeping the activations is also the faster way. It takes the memory that checkpointing saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint


@contextmanager
def activations_kept(kept: bool) -> Iterator[None]:
    """Within it, if ``kept``, ``torch.utils.checkpoint`` calls its functions and does nothing else.

    Both of its ways are taken by their insides, because models keep references to its public functions. If not
    ``kept``, the reentrant way goes the other one, for it can give no gradients but those of a whole ``backward()``.
    """
    if kept:
        with _replaced(_plain_pass, _PlainCall):
            yield
    else:
        with _replaced(checkpoint._checkpoint_without_reentrant_generator, _NotReentrant):
            yield


@contextmanager
def checkpointed_parts(run: Callable[..., Iterator[None]]) -> Iterator[None]:
    """Within it ``run`` stands around every part that is checkpointed, in either way: it is called as torch calls its
    own generator, function and arguments among others, and the part runs where it yields."""
    with _replaced(run, _NotReentrant):
        yield


@contextmanager
def _replaced(generator: Any, function: Any) -> Iterator[None]:
    names = {"_checkpoint_without_reentrant_generator": generator, "CheckpointFunction": function}
    before = {name: getattr(checkpoint, name) for name in names}
    try:
        for name, value in names.items():
            setattr(checkpoint, name, value)
        yield
    finally:
        for name, original in before.items():
            setattr(checkpoint, name, original)


def _plain_pass(*_: Any, **__: Any) -> Iterator[None]:
    yield


class _PlainCall:
    """In place of the autograd function of reentrant checkpointing."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """The function itself."""
        return function(*args)


class _NotReentrant:
    """In place of the same, with the activations still made anew in the backward pass."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """The function, by the way that is not reentrant."""
        return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state)
