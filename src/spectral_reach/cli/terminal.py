"""Where the command writes: colours and live displays on a terminal, plain lines of any length elsewhere."""

from __future__ import annotations

from rich.console import Console

_WIDE = 160
"""Columns when nobody looks: wide enough that no table of ours is folded in a log file."""


def stdout() -> Console:
    """What the user asked for: tables, words, paths."""
    return _console(to_stderr=False)


def stderr() -> Console:
    """What happens on the way: progress, errors."""
    return _console(to_stderr=True)


def _console(*, to_stderr: bool) -> Console:
    console = Console(stderr=to_stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=to_stderr, highlight=False, width=_WIDE, soft_wrap=True)
    return console
