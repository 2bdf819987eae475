"""Data sets by name: ``@register("name")`` on a loader, ``load("name", **options)`` to call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from spectral_reach.studies.data.dataset import Dataset

Loader = Callable[..., Dataset]

_loaders: dict[str, Loader] = {}


def register(name: str) -> Callable[[Loader], Loader]:
    """Make a loader known under ``name``. Its keyword arguments are the options of the data set."""

    def add(loader: Loader) -> Loader:
        if name in _loaders:
            raise ValueError(f"A data set named {name!r} is registered already; choose another name.")
        _loaders[name] = loader
        return loader

    return add


def known() -> tuple[str, ...]:
    """The names of all registered data sets, sorted."""
    return tuple(sorted(_loaders))


def load(name: str, **options: Any) -> Dataset:
    """The data set ``name``, loaded with its options.

    Raises:
        ValueError: the name or an option is unknown (the message lists the known ones), of the wrong type, or out of
            range.
    """
    if name not in _loaders:
        raise ValueError(f"Unknown data set {name!r}; the known ones are {', '.join(known())}.")
    allowed = tuple(inspect.signature(_loaders[name]).parameters)
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(
            f"Data set {name!r} has no option {', '.join(map(repr, unknown))}; its options are "
            f"{', '.join(allowed) or 'none'}."
        )
    return _loaders[name](**options)
