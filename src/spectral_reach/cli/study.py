"""``spectral-reach study``: models that are trained, measured and compared, and what else is measured of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from spectral_reach.cli.engine import Address, CpusPerRun, Engine, GpusPerRun, Workers, as_arguments, engine_options
from spectral_reach.cli.settings import Changes, DryRun, as_typed, parse

study = typer.Typer(name="study", no_args_is_help=True, help="Train models, measure and compare them.")


@study.command("list")
def list_studies() -> None:
    """Name the studies and their presets."""
    from spectral_reach.cli.terminal import stdout
    from spectral_reach.studies import registry

    console = stdout()
    for name in registry.known():
        entry = registry.find(name)
        console.print(f"[bold]{name}[/bold]  {entry.description}")
        for preset, purpose in entry.presets.items():
            console.print(f"  --preset {preset}: {purpose}", markup=False)


@study.command("run")
def run(
    name: Annotated[str, typer.Argument(help="The study; `study list` names them all.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the runs and the summary; needed but for --dry-run.", show_default=False),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A ready-made size of the study.", show_default="the study's own")
    ] = None,
    changes: Changes = None,
    dry_run: DryRun = False,
    engine: Engine = "local",
    workers: Workers = None,
    address: Address = None,
    cpus_per_run: CpusPerRun = None,
    gpus_per_run: GpusPerRun = None,
) -> None:
    """Train and measure every run of a study, do its tasks, and say what came out.

    Run it again to go on after an interruption: what is finished is skipped, runs continue at their checkpoint.
    """
    from spectral_reach.cli.running import run_study, say_dry_run

    options = engine_options(engine, workers, address, cpus_per_run, gpus_per_run)
    settings = parse(changes or ())
    if preset is not None:
        settings = {"preset": preset, **settings}
    if dry_run:
        say_dry_run(name, settings)
        return
    if out is None:
        raise ValueError("--out is missing; expected the folder for the runs and the summary, or --dry-run.")
    command = ["spectral-reach", "study", "run", name, "--out", str(out)]
    if preset is not None:
        command += ["--preset", preset]
    command += as_typed(changes or ())
    run_study(name, settings, out, options=options, command=[*command, *as_arguments(options)])
