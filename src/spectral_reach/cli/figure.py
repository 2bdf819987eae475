"""``spectral-reach figure``: draw a figure of the paper, from a study folder or with the study that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_reach.cli.terminal import stdout

if TYPE_CHECKING:
    from spectral_reach.figures.registry import FigureEntry

LIST = "list"


def figure(
    name: Annotated[str, typer.Argument(help="The figure; `list` (the default) names them all.")] = LIST,
    preset: Annotated[
        str | None, typer.Option(help="Run its study first, in this size; `list` names them.", show_default=False)
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="Draw from this folder of a study instead.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --preset the folder of the study; with --study that of the files.",
            show_default="figures/NAME-PRESET; STUDY/figures",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="With --preset: runs at a time, threads of the tasks.", show_default="one a core"),
    ] = None,
) -> None:
    """Draw a figure as PNG, PDF, SVG and the numbers behind it as CSV.

    With --preset the study behind it is run first, or taken up where it was interrupted; with --study the figure is
    drawn from a folder that is there, finished or not.
    """
    from spectral_reach.figures.registry import FIGURES
    from spectral_reach.figures.registry import figure as entry_of

    if name == LIST:
        for entry in FIGURES.values():
            _tell(entry)
        return
    entry = entry_of(name)
    if (preset is None) == (study is None):
        got = "got neither" if study is None else "got both"
        raise ValueError(
            f"figure {name} is drawn with --preset NAME, which runs the study {entry.study!r} first, or with --study "
            f"DIR, from a folder of that study: {got}, expected one of them."
        )
    if study is None:
        assert preset is not None
        folder = Path("figures") / f"{name}-{preset}" if out is None else out
        _run(entry, preset, folder, workers)
        files = entry.draw(folder)
    elif workers is not None:
        raise ValueError("--workers goes with --preset: nothing is run with --study. Leave it out.")
    else:
        files = entry.draw(study, out)
    for file in files:
        stdout().print(str(file), markup=False)


def _tell(entry: FigureEntry) -> None:
    from spectral_reach.studies import registry

    presets = ", ".join(registry.find(entry.study).presets)
    stdout().print(f"[bold]{entry.name}[/bold]  {entry.shows}")
    stdout().print(f"  study {entry.study}; --preset {presets}", markup=False)


def _run(entry: FigureEntry, preset: str, folder: Path, workers: int | None) -> None:
    """Bring the study of a figure to its end.

    Raises:
        ValueError: the study has no such preset.
        RecordError, RunsFailedError, Stopped: as ``run_study``.
    """
    from spectral_reach.cli.running import run_study

    command = ["spectral-reach", "figure", entry.name, "--preset", preset, "--out", str(folder)]
    if workers is not None:
        command += ["--workers", str(workers)]
    run_study(entry.study, {"preset": preset}, folder, workers=workers, command=command)
