"""Kinds of tasks by name: ``@register("name")`` on a configuration class that can do its work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

OnShare = Callable[[float], None]
"""Told what share of a task is done, from 0 to 1."""


class TaskKind(Protocol):
    """What a study needs of a kind of task: a frozen dataclass of settings, each a JSON value."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def seconds(self) -> float:
        """Expected time on one core, roughly; nothing but what is printed depends on it."""

    def execute(self, study: Path, on_share: OnShare) -> Mapping[str, Any]:
        """Do the work; a function of the settings and of the runs below ``study`` alone.

        Returns:
            What ``records.results.Results.save`` keeps: NumPy arrays and JSON values by name.
        """


_kinds: dict[str, type[TaskKind]] = {}

T = TypeVar("T", bound=type[TaskKind])


def register(name: str) -> Callable[[T], T]:
    """Make a class of settings known under ``name``."""

    def add(kind: T) -> T:
        if name in _kinds:
            raise ValueError(f"A kind of task named {name!r} is registered already; choose another name.")
        _kinds[name] = kind
        return kind

    return add


def known() -> tuple[str, ...]:
    """The names of all registered kinds, sorted."""
    return tuple(sorted(_kinds))


def name_of(settings: TaskKind) -> str:
    """The name under which the class of ``settings`` is registered.

    Raises:
        ValueError: it is not.
    """
    for name, kind in _kinds.items():
        if type(settings) is kind:
            return name
    raise ValueError(
        f"{type(settings).__name__} is no registered kind of task; the known ones are {', '.join(known())}. Register "
        "it with @register."
    )
