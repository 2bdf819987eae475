"""What a user writes for data: ``PATH?column=name&split=name``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

ROLES = (
    "text",
    "text_pair",
    "label",
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "image",
    "input_ids",
    "attention_mask",
    "labels",
)
"""What a column may be for; columns of these names need not be named."""

HUB = "hub:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """A place and what of it is meant.

    Attributes:
        place: a path, or ``hub:DATASET[:CONFIG[:SPLIT]]``.
        columns: role -> the name of the column, where the user has named it.
        split: of a saved data set or an image folder; None for the only one.
        skip: labelled units at the beginning of the random order that are left to another batch.
    """

    place: str
    columns: Mapping[str, str]
    split: str | None = None
    skip: int = 0

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Read ``PATH?text=body&label=stars&split=test&skip=32``. A path that exists may hold a question mark itself.

        Raises:
            ValueError: an option that there is not, twice, without a value, or a ``skip`` that is no number.
        """
        place, mark, query = text, "", ""
        if not Path(text).exists():
            place, mark, query = text.partition("?")
        if not place:
            raise ValueError(f"the data are {text!r}; expected a path or {HUB}DATASET")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
        except ValueError as error:
            raise ValueError(f"{text!r} ends in {mark + query!r}; expected NAME=VALUE pairs joined by &") from error
        options = dict(pairs)
        known = (*ROLES, "split", "skip")
        for name, value in pairs:
            if name not in known:
                raise ValueError(f"{text!r} has an option {name!r}; expected some of {', '.join(known)}")
            if not value:
                raise ValueError(f"{text!r} has no value for {name!r}; expected {name}=VALUE")
        if len(options) < len(pairs):
            raise ValueError(f"{text!r} names an option twice; expected each once")
        skip = options.pop("skip", "0")
        if not skip.isdecimal():
            raise ValueError(f"{text!r} has skip={skip!r}; expected a number of units, 0 or more")
        split = options.pop("split", None)
        return cls(place=place, columns=options, split=split, skip=int(skip))

    @property
    def short_name(self) -> str:
        """The place in few characters, for a line on the terminal."""
        short = self.place if self.place.startswith(HUB) else (Path(self.place).name or self.place)
        return short if self.split is None else f"{short} ({self.split})"
