"""Batches that a training is measured on besides its own: held-out ones, those of another domain, and pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from spectral_reach.measured.isolation import generators_kept
from spectral_reach.tracking.batch_tensors import with_tensors

TRAINING = "training"
"""What pairs call the batch that the next update is made for."""
_TAKEN = frozenset({TRAINING, "update", "checkpoints", "snapshots"})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")

NamedBatch: TypeAlias = Any | Callable[[int], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One thing to measure: the batch ``first``, or what a step on it does to the batch ``second``."""

    name: str
    first: str
    second: str | None = None


class NamedBatches:
    """What ``batches=`` and ``pairs=`` of a tracker ask for.

    Attributes:
        pairs: as given, in a form that can be gone through again.
        all: each named batch, then each pair, with the name of its rows: ``"heldout"``, ``"training-heldout"``.

    Args:
        batches: as in ``sr.Tracker``.
        pairs: as in ``sr.Tracker``.

    Raises:
        TypeError: no mapping of names, or no pairs of names.
        ValueError: a name that cannot be that of a folder and of metrics, that is not there, or that comes twice.
    """

    def __init__(self, batches: Mapping[str, NamedBatch] | None, pairs: Iterable[tuple[str, str]]) -> None:
        if batches is not None and not isinstance(batches, Mapping):
            raise TypeError(
                f"batches is a {type(batches).__name__}; expected a mapping of names to batches, for example "
                '{"heldout": (inputs, targets)}'
            )
        self._batches = dict(batches or {})
        for name in self._batches:
            _check_name(name)
        singles = [Measured(name=name, first=name) for name in self._batches]
        self.pairs = tuple(_listed(pairs))
        self.all = (*singles, *(self._pair(pair) for pair in self.pairs))
        seen: set[str] = set()
        for each in self.all:
            # Names of folders: some systems do not tell capitals from small letters.
            if each.name.lower() in seen:
                raise ValueError(f"batches and pairs give the name {each.name!r} twice; expected each name once")
            seen.add(each.name.lower())

    def _pair(self, pair: Any) -> Measured:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
            raise TypeError(f'pairs holds {pair!r}; expected pairs of names, for example ("{TRAINING}", "heldout")')
        known = [TRAINING, *self._batches]
        for name in pair:
            if name not in known:
                raise ValueError(f"pairs names {name!r}; expected one of {', '.join(map(repr, known))}")
        first, second = pair
        if first == second:
            raise ValueError(f"pairs holds {pair!r}; expected two different batches")
        return Measured(name=f"{first}-{second}", first=first, second=second)

    def at(self, step: int, training: Any, device: torch.device) -> Callable[[str], Any]:
        """The batches of ``step`` by name, on ``device``; each is made once, when it is asked for.

        What a callable of the caller's draws of random numbers, the training does not miss.
        """
        made = {TRAINING: training}

        def batch(name: str) -> Any:
            if name not in made:
                given = self._batches[name]
                if callable(given) and not isinstance(given, Mapping):
                    with generators_kept():
                        given = given(step)
                made[name] = with_tensors(given, lambda tensor: tensor.to(device))
            return made[name]

        return batch


def _listed(pairs: Any) -> list[Any]:
    if isinstance(pairs, (str, bytes)) or not isinstance(pairs, Iterable):
        raise TypeError(f'pairs is {pairs!r}; expected pairs of names, for example [("{TRAINING}", "heldout")]')
    return list(pairs)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"batches has the key {name!r}; expected names")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"batches has the name {name!r}; expected letters, digits, - and _ (it is that of a folder and of metrics)"
        )
    if name.lower() in _TAKEN:
        raise ValueError(f"batches has the name {name!r}, which stands for something else; expected another name")
