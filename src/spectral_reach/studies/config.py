"""What every frozen configuration shares: built from a mapping, checked, written back as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


class SettingTypeError(TypeError, ValueError):
    """A setting of the wrong type: as much a user's slip as a value out of range, and told in the same way."""


def from_mapping(kind: type[C], values: Mapping[str, Any], where: str) -> C:
    """A ``kind`` from its settings by name, as they stand in a JSON file.

    Raises:
        ValueError: a setting is unknown (the message lists the known ones), missing, or impossible.
        SettingTypeError: a setting is of the wrong type.
    """
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind) if f.init}
    if unknown := [name for name in values if name not in known]:
        raise ValueError(
            f"{where} has no setting {', '.join(map(repr, unknown))}; its settings are {', '.join(known)}."
        )
    if missing := [name for name, required in known.items() if required and name not in values]:
        raise ValueError(f"{where} lacks {', '.join(map(repr, missing))}; its settings are {', '.join(known)}.")
    return kind(**values)


def as_mapping(config: DataclassInstance) -> dict[str, Any]:
    """The settings by name, nested configurations as mappings, ready for JSON."""
    return asdict(config)


def check_types(config: DataclassInstance) -> None:
    """Each plain setting (int, float, str, bool) is of its declared type; an int will do for a float.

    Raises:
        SettingTypeError: one is not.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        declared, value = hints[field.name], getattr(config, field.name)
        if declared is float and type(value) is int:
            object.__setattr__(config, field.name, float(value))
        elif declared in (int, float, str, bool) and type(value) is not declared:
            raise SettingTypeError(
                f"{type(config).__name__}.{field.name} is {value!r}, a {type(value).__name__}; expected "
                f"a {declared.__name__}."
            )


def check(config: DataclassInstance, name: str, holds: bool, expected: str) -> None:
    """Refuse the setting ``name`` unless ``holds``.

    Raises:
        ValueError: "Config.name is value; expected ...".
    """
    if not holds:
        raise ValueError(f"{type(config).__name__}.{name} is {getattr(config, name)!r}; expected {expected}.")


def check_whole_number(name: str, value: object) -> None:
    """Refuse what is no int; for options and lists, of which no declaration says the type.

    Raises:
        SettingTypeError: "name is value, a type; expected a whole number".
    """
    if type(value) is not int:
        raise SettingTypeError(f"{name} is {value!r}, a {type(value).__name__}; expected a whole number.")


def check_whole_numbers(config: DataclassInstance, name: str) -> None:
    """The setting ``name`` is a list of ints, which becomes a tuple.

    Raises:
        SettingTypeError: it is not.
    """
    values = getattr(config, name)
    if not isinstance(values, list | tuple) or not all(type(value) is int for value in values):
        raise SettingTypeError(
            f"{type(config).__name__}.{name} is {values!r}; expected a list of whole numbers, for example [16, 32]."
        )
    object.__setattr__(config, name, tuple(values))


def from_preset(presets: Mapping[str, Callable[[], C]], values: Mapping[str, Any], *, default: str, study: str) -> C:
    """A preset of a study with some settings changed: ``{"preset": "quick", "seeds": 10}``.

    Raises:
        ValueError: a preset or setting is unknown, missing or impossible; the message names it.
        SettingTypeError: a setting is of the wrong type.
    """
    made = named_preset(presets, values, default=default, study=study)
    return from_mapping(type(made), overridden(as_mapping(made), values), f"The {study} study")


P = TypeVar("P")


def named_preset(presets: Mapping[str, Callable[[], P]], values: Mapping[str, Any], *, default: str, study: str) -> P:
    """The preset that ``values`` name, as it comes.

    Raises:
        ValueError: it is unknown; the message lists the known ones.
    """
    preset = values.get("preset", default)
    if not isinstance(preset, str) or preset not in presets:
        raise ValueError(f"Unknown preset {preset!r} of the {study} study; the known ones are {', '.join(presets)}.")
    return presets[preset]()


def overridden(settings: Mapping[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` with those of ``by`` in their place, settings inside settings one by one."""
    result = dict(settings)
    for name, value in by.items():
        old = result.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = overridden(old, value)
        result[name] = value
    return result
