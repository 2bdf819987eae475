"""Data sets by name: ``@register("name")`` on a loader, ``load("name", **options)`` to call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from spectral_reach.studies.data.dataset import Dataset

Loader = Callable[..., Dataset]
Resolver = Callable[[Mapping[str, Any]], dict[str, Any]]

_loaders: dict[str, Loader] = {}
_outlines: dict[str, Loader] = {}
_resolvers: dict[str, Resolver] = {}


def register(name: str, outline: Loader | None = None, resolved: Resolver | None = None) -> Callable[[Loader], Loader]:
    """Make a loader known under ``name``. Its keyword arguments are the options of the data set.

    ``outline``: for data that have to be downloaded or tokenised first, what the same options say of them without that.
    ``resolved``: for options whose meaning depends on where or when they are read, the same data by options that mean
    the same everywhere and always.
    """

    def add(loader: Loader) -> Loader:
        if name in _loaders:
            raise ValueError(f"A data set named {name!r} is registered already; choose another name.")
        _loaders[name] = loader
        _outlines[name] = loader if outline is None else outline
        _resolvers[name] = dict if resolved is None else resolved
        return loader

    return add


def known() -> tuple[str, ...]:
    """The names of all registered data sets, sorted."""
    return tuple(sorted(_loaders))


def outline(name: str, **options: Any) -> Dataset:
    """What a plan needs to know of the data set ``name``; those that every machine has are loaded.

    Raises:
        ValueError: as ``load``, but for what only the data themselves can show.
    """
    _check_options(name, options)
    return _outlines[name](**options)


def resolved(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with local paths made absolute and branches of a hub replaced by commits, which may ask that hub.

    What a run's folder holds: a worker loads the same data from it, in another folder and without a network.

    Raises:
        ValueError: the name or an option is unknown, missing or of the wrong type, or the hub cannot be reached.
    """
    _check_options(name, options)
    return _resolvers[name](options)


def load(name: str, **options: Any) -> Dataset:
    """The data set ``name``, loaded with its options.

    Raises:
        ValueError: the name or an option is unknown (the message lists the known ones), missing, of the wrong type, or
            out of range.
    """
    _check_options(name, options)
    return _loaders[name](**options)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    allowed = _options(name)
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(
            f"Data set {name!r} has no option {', '.join(map(repr, unknown))}; its options are "
            f"{', '.join(allowed) or 'none'}."
        )
    if missing := [o for o, parameter in allowed.items() if parameter.default is parameter.empty and o not in options]:
        raise ValueError(
            f"Data set {name!r} lacks its option {', '.join(map(repr, missing))}; give it, for example as "
            f"{name}:{missing[0].upper()}."
        )


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """A data set as one word: ``"digits"`` is a name, ``"cifar5m:FOLDER"`` a name and its first option.

    Raises:
        ValueError: the name is unknown, nothing follows the colon, or the data set has no options.
    """
    name, colon, value = text.partition(":")
    allowed = _options(name)
    if not colon:
        return name, {}
    if not allowed:
        raise ValueError(f"Data set {text!r} has something after the colon, but {name!r} has no options; write {name}.")
    first = next(iter(allowed))
    if not value:
        raise ValueError(f"Data set {text!r} has nothing after the colon; expected {name}:{first.upper()}.")
    return name, {first: value}


def _options(name: str) -> Mapping[str, inspect.Parameter]:
    if name not in _loaders:
        raise ValueError(f"Unknown data set {name!r}; the known ones are {', '.join(known())}.")
    return inspect.signature(_loaders[name]).parameters
