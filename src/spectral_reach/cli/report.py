"""``spectral-reach report``: one HTML page of everything that studies have found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_reach.cli.terminal import stdout


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder that holds study folders, or one study folder; finished or not.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="DIR/report.html")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write one HTML page: claims, interactive figures, runs, settings. It needs no network.

    The claims are written beside it as claims.md and claims.json.
    """
    from spectral_reach.reports.report import build

    built = build(folder, out)
    for file in (built.page, *built.files):
        stdout().print(str(file), markup=False)
    if open_:
        import webbrowser

        webbrowser.open(built.page.resolve().as_uri())
