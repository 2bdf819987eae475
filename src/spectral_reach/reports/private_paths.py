"""Settings and labels without paths: a page that is passed on says nothing about the disk of whoever made it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SHORTENED = "…/"

# The beginning of an absolute path: of the root, the home folder or a drive, as a URL of a file too.
_START = r"(?:file://)?(?:~|[A-Za-z]:)?[/\\]"
_WHOLE = re.compile(rf"{_START}[^\n]*")
_INSIDE = re.compile(rf"(?<![\w./\\]){_START}(?:[^/\\\s:;,'\"()]+[/\\])+([^/\\\s:;,'\"()]*)")


def without_paths(value: Any) -> Any:
    """A copy of JSON values in which every absolute path is cut down to its last part: ``…/stories.jsonl``.

    A text that begins as a path is one as a whole, spaces and all; inside other texts paths end at a space, comma or
    quotation mark. Names such as ``SimpleStories/SimpleStories`` stay.
    """
    if isinstance(value, Mapping):
        return {str(without_paths(str(key))): without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    return _shortened(value) if isinstance(value, str) else value


def _shortened(text: str) -> str:
    if _WHOLE.fullmatch(text):
        return SHORTENED + re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    return _INSIDE.sub(lambda found: SHORTENED + found.group(1), text)
