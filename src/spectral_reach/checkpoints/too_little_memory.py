"""Memory that ran out, told with what would need less of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spectral_reach.checkpoints.first_line import first_line

_OF_CPU = "DefaultCPUAllocator"
"""How torch calls what asks the system for memory, which raises nothing but RuntimeError."""


@contextmanager
def too_little_memory_told(remedy: str) -> Iterator[None]:
    """Turn memory that runs out in the body into an error that ends in a ``remedy``.

    Raises:
        ValueError: that.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and _OF_CPU not in str(error):
            raise
        raise ValueError(f"memory ran out ({first_line(error)}); {remedy}") from error
