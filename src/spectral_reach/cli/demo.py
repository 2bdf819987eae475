"""``spectral-reach demo``: the paper's Figure 1 in small, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

STUDY = "scaling"
PRESET = "demo"
FIGURE = "fig1"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the figure.")] = Path("demo"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time, one thread each.", show_default="one a core")
    ] = None,
) -> None:
    """Train small families on text and on images, measure them all along, and draw loss and position against compute.

    Run it again to go on after an interruption, or to see the results again.
    """
    from spectral_reach.cli.engine import as_arguments
    from spectral_reach.cli.running import run_study
    from spectral_reach.cli.terminal import stdout
    from spectral_reach.studies.engines.options import EngineOptions

    options = EngineOptions(workers=workers)
    command = ["spectral-reach", "demo", "--out", str(out), *as_arguments(options)]
    run_study(STUDY, {"preset": PRESET}, out, options=options, command=command)

    from spectral_reach.figures.registry import figure

    console = stdout()
    for file in figure(FIGURE).draw(out):
        console.print(f"Figure: {file}", markup=False)
