"""A ``.txt`` file: documents with blank lines between them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")


class TextFile:
    """Rows with a column ``text``, a document each."""

    columns: tuple[str, ...] = ("text",)

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        whole = path.read_text(encoding="utf-8-sig")
        self._documents = [part.strip("\n") for part in _BLANK_LINES.split(whole) if part.strip()]

    def __len__(self) -> int:
        return len(self._documents)

    def row(self, index: int, columns: Collection[str]) -> Mapping[str, Any]:
        """The document."""
        return {"text": self._documents[index]}

    def where(self, index: int) -> str:
        """Documents are counted from 1."""
        return f"document {index + 1}"

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """None: there are no classes."""
        return None
