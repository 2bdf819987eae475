"""What another library's error says, in one line."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of its message without a full stop; its name where there is none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
