"""``spectral-reach figure``: draw a figure of the paper from a study folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_reach.cli.terminal import stdout

LIST = "list"


def figure(
    name: Annotated[str, typer.Argument(help="The figure; `list` (the default) names them all.")] = LIST,
    study: Annotated[
        Path | None, typer.Option(help="Folder that `demo` or `study run` wrote.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files.", show_default="STUDY/figures")] = None,
) -> None:
    """Draw a figure from a study folder, finished or not, as PNG, PDF, SVG and the numbers behind it as CSV."""
    from spectral_reach.figures.registry import FIGURES
    from spectral_reach.figures.registry import figure as entry_of

    console = stdout()
    if name == LIST:
        for entry in FIGURES.values():
            console.print(f"[bold]{entry.name}[/bold]  {entry.shows}")
        return
    entry = entry_of(name)
    if study is None:
        raise ValueError(f"figure {name} needs a study to draw; give its folder: --study DIR.")
    for file in entry.draw(study, out):
        console.print(str(file), markup=False)
