"""``--set families.text.training.steps=900``: settings by their path, values as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting of the preset, e.g. seeds=[1]; repeatable."),
]
ChangesOfStudies = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STUDY.PATH=VALUE",
        help="Change a setting of a study that is run, e.g. vit.families.vit.data.folder=/data; repeatable.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what every run would take, and do nothing; needs no data.")
]


def as_typed(changes: Iterable[str]) -> list[str]:
    """The words of the command line that make these changes."""
    return [word for change in changes for word in ("--set", change)]


def parse(assignments: Iterable[str]) -> dict[str, Any]:
    """``["a.b=1", "a.c=[2, 3]", "d=x"]`` as ``{"a": {"b": 1, "c": [2, 3]}, "d": "x"}``; no JSON is a string.

    Raises:
        ValueError: one has no ``=`` or no name, comes twice, or is both a setting and a group of settings.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *groups, name = path.split(".")
        if not equals or not all((*groups, name)):
            raise ValueError(
                f"--set got {assignment!r}; expected PATH=VALUE, for example families.text.training.steps=900."
            )
        group = settings
        for each in groups:
            group = group.setdefault(each, {})
            if not isinstance(group, dict):
                raise ValueError(f"--set {path}: {each} has been set to {group!r} already; give one of the two.")
        if name in group:
            raise ValueError(f"--set {path} comes twice; give one value.")
        group[name] = _value(text)
    return settings


def of_studies(names: Sequence[str], preset: str, changes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each study: the preset, with the changes that name it.

    Raises:
        ValueError: a change names no study, or no setting of one.
    """
    if unknown := [name for name in changes if name not in names]:
        raise ValueError(
            f"--set got a setting of {unknown[0]!r}; expected STUDY.PATH=VALUE with one of the studies "
            f"{', '.join(names)}."
        )
    for name, change in changes.items():
        if not isinstance(change, Mapping):
            raise ValueError(f"--set {name}={change} sets a whole study; expected {name}.SETTING=VALUE.")
    return {name: {"preset": preset, **changes.get(name, {})} for name in names}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
