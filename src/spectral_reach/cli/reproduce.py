"""``spectral-reach reproduce``: the paper's experiments, from nothing to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spectral_reach.cli.engine import Address, CpusPerRun, Engine, GpusPerRun, Workers, as_arguments, engine_options
from spectral_reach.cli.settings import ChangesOfStudies, DryRun, as_typed, of_studies, parse
from spectral_reach.cli.terminal import stderr, stdout

if TYPE_CHECKING:
    from spectral_reach.figures.registry import FigureEntry
    from spectral_reach.studies.engines.options import EngineOptions

ALL = "all"
FIGURES_FOLDER = "figures"


def reproduce(
    what: Annotated[str, typer.Argument(help="`all`, or a figure: fig1, fig3, ...")],
    preset: Annotated[str, typer.Option(help="Size of every study: toy, quick, laptop or paper.")] = "quick",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the studies, figures and report.", show_default="reproduction/WHAT-PRESET"),
    ] = None,
    changes: ChangesOfStudies = None,
    dry_run: DryRun = False,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
) -> None:
    """Run the studies, draw the figures, and write the report with the table of the paper's claims.

    Run it again to go on after an interruption: what is finished is not done again. A study that fails does not keep
    the others from being run and reported.
    """
    from spectral_reach.cli.running import look_ahead, resumable, say_dry_run

    options = engine_options(engine, workers, address, cpus_per_run, gpus_per_run)
    entries = _entries(what)
    names = tuple(dict.fromkeys(study for entry in entries for study in entry.studies))
    settings = of_studies(names, preset, parse(changes or ()))
    if dry_run:
        for name in names:
            say_dry_run(name, settings[name])
        return
    folder = Path("reproduction") / f"{what}-{preset}" if out is None else out
    command = ["spectral-reach", "reproduce", what, "--preset", preset, "--out", str(folder)]
    command += as_typed(changes or ())
    command += as_arguments(options)
    with resumable(folder, command):
        from spectral_reach.reports.report import require_plotly

        # Before anything is run: a missing package, a mistyped setting or missing data of the last study shows now,
        # and so does a folder of other settings.
        require_plotly()
        look_ahead(settings, folder, options)
        failures = [*_run(names, settings, folder, options, command), *_draw(entries, folder)]
        if _begun(names, folder):  # else all that there is to tell is why
            _report(folder)
    _raise(failures)


def _entries(what: str) -> list[FigureEntry]:
    from spectral_reach.figures.registry import FIGURES, figure

    if what == ALL:
        return list(FIGURES.values())
    entry = figure(what)
    if not entry.studies:
        raise ValueError(
            f"figure {what} is of trainings of your own, not of studies: expected `spectral-reach figure {what} --run "
            "DIR`."
        )
    return [entry]


def _run(
    names: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    folder: Path,
    options: EngineOptions,
    command: Sequence[str],
) -> list[Exception]:
    """Every study in a folder of its name; what failed is told at the end."""
    from spectral_reach.cli.running import run_study
    from spectral_reach.records.errors import RecordError
    from spectral_reach.studies.engines.errors import EngineRefusedError, RunsFailedError, reason_of

    failures: list[Exception] = []
    unexpected: dict[str, str] = {}
    for i, name in enumerate(names, start=1):
        stdout().rule(f"{name} ({i} of {len(names)})")
        try:
            run_study(name, settings[name], folder / name, options=options, command=command)
        except (RunsFailedError, RecordError) as failure:
            stderr().print(f"{name}: {failure}", markup=False)
            failures.append(failure)
        except (ImportError, EngineRefusedError):  # no study can be run
            raise
        except Exception as error:  # a defect of one study must not cost the others
            unexpected[name] = reason_of(error)
            stderr().print(f"{name}: {unexpected[name]}", markup=False)
    if unexpected:
        failures.append(RunsFailedError(unexpected, of=len(names), what="studies"))
    return failures


def _draw(entries: Sequence[FigureEntry], folder: Path) -> list[Exception]:
    """Every figure that has something to show, as files; of the others why not. What failed is told at the end.

    A figure of several studies is drawn from those that are there.
    """
    from spectral_reach.figures.errors import NothingToDrawError
    from spectral_reach.records.errors import RecordError
    from spectral_reach.studies.engines.errors import RunsFailedError, reason_of

    stdout().rule("Figures")
    unexpected: dict[str, str] = {}
    for entry in entries:
        folders = _begun(entry.studies, folder)
        try:
            if not folders:
                raise NothingToDrawError(f"{folder} has no study {' or '.join(entry.studies)}; run it first.")
            files = entry.draw(folders, folder / FIGURES_FOLDER)
        except (NothingToDrawError, RecordError) as nothing:
            stderr().print(f"{entry.name} is not drawn: {nothing}", markup=False)
        except Exception as error:  # a defect of one figure must not cost the others and the report
            unexpected[entry.name] = reason_of(error)
            stderr().print(f"{entry.name} is not drawn: {unexpected[entry.name]}", markup=False)
        else:
            stdout().print(f"{entry.name}: {files[0]}", markup=False)
    return [RunsFailedError(unexpected, of=len(entries), what="figures")] if unexpected else []


def _begun(names: Sequence[str], folder: Path) -> list[Path]:
    """The folders of those studies that have one: one that failed early has none, or an empty one."""
    return [folder / name for name in names if (folder / name / "study.json").exists()]


def _raise(failures: Sequence[Exception]) -> None:
    """What failed in the studies and figures, as one error."""
    from spectral_reach.studies.engines.errors import RunsFailedError, raise_together

    raise_together([failure for failure in failures if isinstance(failure, RunsFailedError)])
    if failures:
        raise failures[0]


def _report(folder: Path) -> None:
    from spectral_reach.cli.running import show_section
    from spectral_reach.reports.report import build

    stdout().rule("Report")
    with stderr().status("Writing the report"):
        built = build(folder)
    show_section(built.claims.section(), stdout())
    stdout().print(f"Claims: {', '.join(map(str, built.files))}", markup=False)
    stdout().print(f"Report: {built.page}", markup=False)
