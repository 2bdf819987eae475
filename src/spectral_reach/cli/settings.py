"""``--set families.text.training.steps=900``: settings by their path, values as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


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
