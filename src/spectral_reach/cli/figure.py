"""``spectral-reach figure``: draw a figure of the paper, from study folders or with the studies that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spectral_reach.cli.engine import Address, CpusPerRun, Engine, GpusPerRun, Workers, as_arguments, engine_options
from spectral_reach.cli.settings import ChangesOfStudies, as_typed, of_studies, parse
from spectral_reach.cli.terminal import stdout

if TYPE_CHECKING:
    from spectral_reach.figures.registry import FigureEntry
    from spectral_reach.studies.engines.options import EngineOptions

LIST = "list"


def figure(
    name: Annotated[str, typer.Argument(help="The figure; `list` (the default) names them all.")] = LIST,
    preset: Annotated[
        str | None, typer.Option(help="Run its studies first, in this size; `list` names them.", show_default=False)
    ] = None,
    study: Annotated[
        list[Path] | None,
        typer.Option(help="Draw from this folder of a study instead; repeat it for several.", show_default=False),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="A figure of trainings: draw from this folder of a tracker or callback; repeat it for several.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --preset the folder of its study, of several the one that holds theirs; with --study or "
            "--run that of the files.",
            show_default="figures/NAME-PRESET; figures in the folder drawn from, of several beside the first",
        ),
    ] = None,
    changes: ChangesOfStudies = None,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
) -> None:
    """Draw a figure as PNG, PDF, SVG and the numbers behind it as CSV.

    With --preset the studies behind it are run first, or taken up where they were interrupted; with --study the figure
    is drawn from folders that are there, finished or not; with --run from a training of your own.
    """
    from spectral_reach.figures.registry import FIGURES, OF_RUNS
    from spectral_reach.figures.registry import figure as entry_of

    if name == LIST:
        for entry in (*FIGURES.values(), *OF_RUNS.values()):
            _tell(entry)
        return
    entry = entry_of(name)
    if not entry.studies or run:
        _check_drawn_from_runs(entry, run, {"--preset": preset, "--study": study, "--set": changes})
        _say(entry.draw(run or [], out))
        return
    if (preset is None) == (not study):
        got = "got both" if study else "got neither"
        studies = " and ".join(entry.studies)
        raise ValueError(
            f"figure {name} is drawn with --preset NAME, which runs {studies} first, or with --study DIR, from a "
            f"folder of such a study: {got}, expected one of them."
        )
    options = engine_options(engine, workers, address, cpus_per_run, gpus_per_run)
    if preset is not None:
        folder = Path("figures") / f"{name}-{preset}" if out is None else out
        files = entry.draw(_run(entry, preset, changes or (), folder, options), folder / "figures")
    elif changes:
        raise ValueError("--set goes with --preset: nothing is run with --study. Leave it out.")
    elif unused := as_arguments(options):
        raise ValueError(f"{unused[0]} goes with --preset: nothing is run with --study. Leave it out.")
    else:
        files = entry.draw(study or [], out)
    _say(files)


def _check_drawn_from_runs(entry: FigureEntry, run: Sequence[Path] | None, others: Mapping[str, object]) -> None:
    if entry.studies:
        raise ValueError(
            f"figure {entry.name} is drawn from studies: got --run, expected --preset NAME or --study DIR."
        )
    given = next((option for option, value in others.items() if value), None)
    if given is not None or not run:
        raise ValueError(
            f"figure {entry.name} is drawn with --run DIR, from the folder of a tracker or callback with updates=: got "
            f"{given or 'none'}, expected that alone."
        )


def _say(files: Sequence[Path]) -> None:
    for file in files:
        stdout().print(str(file), markup=False)


def _tell(entry: FigureEntry) -> None:
    stdout().print(f"[bold]{entry.name}[/bold]  {entry.shows}")
    if not entry.studies:
        stdout().print("  --run, the folder of a tracker or callback with updates=", markup=False)
        return
    studies = " and ".join(entry.studies)
    word = "study" if len(entry.studies) == 1 else "studies"
    stdout().print(f"  {word} {studies}; --preset {', '.join(_presets(entry))}", markup=False)


def _presets(entry: FigureEntry) -> list[str]:
    """Those that all studies of the figure have."""
    from spectral_reach.studies import registry

    first, *others = (registry.find(study).presets for study in entry.studies)
    return [preset for preset in first if all(preset in presets for presets in others)]


def _run(entry: FigureEntry, preset: str, changes: Sequence[str], folder: Path, options: EngineOptions) -> list[Path]:
    """Bring the studies of a figure to their end, in ``folder`` or, several, in a folder of their name in it.

    Raises:
        ValueError: one of them has no such preset.
        RecordError, RunsFailedError, Stopped: as ``run_study``.
    """
    from spectral_reach.cli.running import run_study

    if preset not in _presets(entry):
        raise ValueError(
            f"got preset {preset!r} for figure {entry.name}; expected one of {', '.join(_presets(entry))}, which "
            f"{' and '.join(entry.studies)} can be run in."
        )
    command = ["spectral-reach", "figure", entry.name, "--preset", preset, "--out", str(folder)]
    command += as_typed(changes)
    command += as_arguments(options)
    settings = of_studies(entry.studies, preset, parse(changes))
    folders = [folder] if len(entry.studies) == 1 else [folder / study for study in entry.studies]
    for study, place in zip(entry.studies, folders, strict=True):
        run_study(study, settings[study], place, options=options, command=command)
    return folders
