"""One piece of work of a study: a name, and frozen settings that know how it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spectral_reach.studies.config import as_mapping, check, check_types
from spectral_reach.studies.tasks.registry import TaskKind, name_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task: done once, with one result file, after the runs of its study.

    An interrupted study loses at most the task in hand, so long work is better split into several.

    Attributes:
        name: of the result, ``results/NAME.json`` or ``.npz``.
        settings: of a registered kind.
    """

    name: str
    settings: TaskKind

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "name", bool(self.name) and set(self.name) <= _IN_A_NAME, "letters, digits, -, _ and .")
        check(self, "name", not self.name.startswith("."), "a name that does not start with a dot")
        name_of(self.settings)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: everything that determines the result."""
        return {"name": self.name, "kind": name_of(self.settings), "settings": as_mapping(self.settings)}


_IN_A_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
