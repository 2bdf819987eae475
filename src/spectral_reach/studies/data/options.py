"""Checks that the options of data sets share: names of files and folders, and one of a few words."""

from __future__ import annotations

from pathlib import Path

from spectral_reach.studies.config import SettingTypeError, check_whole_number


def check_text(name: str, value: object) -> None:
    """Refuse what is no string, or an empty one.

    Raises:
        SettingTypeError: "name is value, a type; expected text".
        ValueError: it is empty.
    """
    if not isinstance(value, str):
        raise SettingTypeError(f"{name} is {value!r}, a {type(value).__name__}; expected text.")
    if not value:
        raise ValueError(f"{name} is empty; expected at least one character.")


def check_at_least_one(name: str, value: int, unit: str = "") -> None:
    """Refuse what is no whole number above 0.

    Raises:
        SettingTypeError: it is no whole number.
        ValueError: "name is value; expected at least 1 unit".
    """
    check_whole_number(name, value)
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1{unit and ' '}{unit}.")


def absolute_path(name: str, value: object) -> str:
    """The path ``value``, ``~`` expanded, from the root; whether something is there is not asked.

    Raises:
        SettingTypeError: it is no string.
        ValueError: it is empty.
    """
    check_text(name, value)
    return str(Path(str(value)).expanduser().absolute())


def existing_path(name: str, value: object, what: str) -> Path:
    """The path ``value``, ``~`` expanded, of something that exists.

    Raises:
        SettingTypeError: it is no string.
        ValueError: nothing has that name.
    """
    check_text(name, value)
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise ValueError(f"{name} is {str(value)!r}, which does not exist; expected {what}. Check the path.")
    return path


def existing_folder(name: str, value: object, what: str) -> Path:
    """The path ``value``, ``~`` expanded, of a folder that exists.

    Raises:
        SettingTypeError: it is no string.
        ValueError: nothing has that name, or a file has.
    """
    path = existing_path(name, value, what)
    if not path.is_dir():
        raise ValueError(f"{name} is {str(value)!r}, a file; expected {what}. Give the folder that holds it.")
    return path


def check_one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse what is not one of the choices.

    Raises:
        ValueError: "name is value; expected one of ...".
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected {' or '.join(map(repr, choices))}.")
