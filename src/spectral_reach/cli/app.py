"""The command ``spectral-reach``. Nothing here imports torch: help and mistakes are answered at once."""

from __future__ import annotations

import io
import sys
from typing import Annotated

import typer

from spectral_reach import __version__
from spectral_reach.cli.demo import demo
from spectral_reach.cli.exits import EXIT_CODES, TellingGroup
from spectral_reach.cli.figure import figure
from spectral_reach.cli.measure import measure
from spectral_reach.cli.report import report
from spectral_reach.cli.reproduce import reproduce
from spectral_reach.cli.spectrum import spectrum
from spectral_reach.cli.study import study

app = typer.Typer(
    name="spectral-reach",
    cls=TellingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spectral-reach {__version__}")
        raise typer.Exit


@app.callback()
def root(
    traceback: Annotated[
        bool, typer.Option("--traceback", envvar="SPECTRAL_REACH_TRACEBACK", help="Show where an error came from.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure where in the spectrum of the empirical neural tangent kernel a network is learning."""


app.command()(demo)
app.command()(measure)
app.command()(spectrum)
app.add_typer(study)
app.command()(figure)
app.command()(report)
app.command()(reproduce)


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show "±" gets a "?", not an error after minutes of work.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    app(prog_name="spectral-reach")
