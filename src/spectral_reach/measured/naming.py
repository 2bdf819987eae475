"""Which of a caller's things an error is about, where there are several of a kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from spectral_reach.measured.finite import NotFiniteError
from spectral_reach.measured.rows import NoLabelledRowsError

_OURS = (ValueError, TypeError, NoLabelledRowsError, NotFiniteError)


@contextmanager
def about(name: str) -> Iterator[None]:
    """Errors in the body that are told to users begin with ``name``, as in "against: no row carries a label"."""
    try:
        yield
    except _OURS as error:
        # Of subclasses by others nothing is known: what they are made from, or who catches them.
        if type(error) not in _OURS:
            raise
        raise type(error)(f"{name}: {error}") from error
