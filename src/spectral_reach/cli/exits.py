"""Exit codes, and how an error is told: what happened and what to do, in red, without a traceback."""

from __future__ import annotations

import traceback
from enum import IntEnum
from importlib.util import find_spec
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from spectral_reach.cli.terminal import stderr
from spectral_reach.records.errors import RecordError
from spectral_reach.studies.engines.errors import RunsFailedError


class ExitCode(IntEnum):
    """What scripts can tell apart."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    FOLDER = 3
    INTERRUPTED = 130


# Empty lines keep the lines of a help text apart.
EXIT_CODES = """
Exit codes: 0 done

1 a run failed, something is not installed, or the network is not there

2 bad input

3 a folder is busy, holds something else or cannot be written

130 interrupted; the command that is printed goes on from there
"""

_STUDIES_EXTRA = ("transformers", "tokenizers", "sklearn", "matplotlib")
_EXTRA_OF = {**dict.fromkeys(_STUDIES_EXTRA, "studies"), "plotly": "report"}


def require_studies_extra() -> None:
    """Find out before hours of work, not after, that a package of the extra ``studies`` is missing.

    Raises:
        ModuleNotFoundError: one is.
    """
    for package in _STUDIES_EXTRA:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


class Stopped(KeyboardInterrupt):
    """Ctrl-C during work that can be taken up again.

    Attributes:
        kept: one sentence on what has been kept.
        go_on: the command that goes on from there.
    """

    def __init__(self, kept: str, go_on: str) -> None:
        super().__init__(kept)
        self.kept = kept
        self.go_on = go_on


class TellingGroup(TyperGroup):
    """A group of commands that tells expected errors in one line and turns each into its exit code."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override] # typer vendors click's Context
        """Run the chosen command; unexpected exceptions pass through with their traceback."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _tell_stop(stop)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except Exception as error:
            code = exit_code_of(error)
            if code is None:
                raise
            if ctx.params["traceback"]:
                traceback.print_exc()
            else:
                stderr().print(f"[red]Error:[/red] {escape(told(error))}")
            raise typer.Exit(code) from None


def exit_code_of(error: Exception) -> ExitCode | None:
    """The exit code of an error that a user can do something about; None for one that is ours to mend."""
    match error:
        case RecordError() | PermissionError() | NotADirectoryError():
            return ExitCode.FOLDER
        case RunsFailedError() | ImportError() | ConnectionError():
            return ExitCode.FAILED
        case ValueError():
            return ExitCode.BAD_INPUT
        case _:
            return None


def told(error: Exception) -> str:
    """What the error says; a missing package with the extra that brings it."""
    if isinstance(error, ModuleNotFoundError) and (top := (error.name or "").split(".")[0]) in _EXTRA_OF:
        return f'{top} is not installed. It comes with: pip install "spectral-reach[{_EXTRA_OF[top]}]"'
    return str(error)


def _tell_stop(stop: KeyboardInterrupt) -> None:
    if isinstance(stop, Stopped):
        stderr().print(f"[yellow]Stopped.[/yellow] {escape(stop.kept)} Go on with:\n  {escape(stop.go_on)}")
    else:
        stderr().print("[yellow]Stopped.[/yellow]")
