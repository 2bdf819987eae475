"""HTML from Python: every text is escaped on its way in, so that nothing that a study is called can act in the page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

_EMPTY = frozenset({"meta", "img", "link", "input", "br", "col"})


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that has been made here, and need not be escaped again."""

    html: str

    def __str__(self) -> str:
        return self.html


Content = str | Markup | None


def element(tag: str, *content: Content | Iterable[Content], **attributes: str | int | bool | None) -> Markup:
    """``<tag attributes>content</tag>``; text is escaped, markup is not, None is left out.

    An attribute's underscores are written as hyphens and one at its end is dropped (``class_``, ``aria_label``); True
    stands for an attribute without value, False and None for none.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _EMPTY:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{joined(*content)}</{tag}>")


def joined(*content: Content | Iterable[Content]) -> Markup:
    """Pieces one after another; text is escaped."""
    return Markup("".join(_html(piece) for piece in content))


def _html(piece: Content | Iterable[Content]) -> str:
    if piece is None:
        return ""
    if isinstance(piece, Markup):
        return piece.html
    if isinstance(piece, str):
        return escape(piece)
    return "".join(_html(each) for each in piece)


def _attribute(name: str, value: str | int | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def data_block(identifier: str, value: Any) -> Markup:
    """A JSON value for the page's script; no character in it can end the block or begin a tag.

    Raises:
        ValueError, TypeError: the value is not JSON (NaN and infinities are not).
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{escape(identifier)}">{text}</script>')


def folded(summary: Content, *content: Content | Iterable[Content]) -> Markup:
    """A part of the page that opens when it is asked for."""
    return element("details", element("summary", summary), *content)
