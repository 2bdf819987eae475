"""A package that an integration is about, and the extra that brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Imports in the body that fail say what to install.

    Raises:
        ImportError: a package is missing, with ``pip install "spectral-reach[extra]"``.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f'{error.name or extra} is not installed; expected it for {extra}: pip install "spectral-reach[{extra}]"',
            name=error.name,
        ) from error
