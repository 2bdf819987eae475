"""The options of every command that executes runs: who does, with what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from spectral_reach.studies.engines.options import EngineOptions

Engine = Annotated[
    str,
    typer.Option(help="Who executes the runs: local, processes of this machine; inline, this one; ray, a Ray cluster."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Runs at a time, on the CUDA devices in turn if there are any; threads of the tasks after them.",
        show_default="one a CUDA device, else one a core",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="With --engine ray: the cluster; auto for the one of this machine.",
        show_default="$RAY_ADDRESS, or a Ray of this machine for these runs",
    ),
]
CpusPerRun = Annotated[
    float | None, typer.Option(help="With --engine ray: cores that a run takes.", show_default="its threads")
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(
        help="With --engine ray: GPUs that a run takes; 0.5 for two runs on one, 0 for runs on the CPU.",
        show_default="1 if the cluster has any",
    ),
]


def engine_options(
    engine: str, workers: int | None, address: str | None, cpus_per_run: float | None, gpus_per_run: float | None
) -> EngineOptions:
    """What the options of the command say together.

    Raises:
        ValueError: the engine is unknown, or a value is impossible or not for this engine.
    """
    from spectral_reach.studies.engines.options import EngineOptions

    return EngineOptions(
        engine=engine, workers=workers, address=address, cpus_per_run=cpus_per_run, gpus_per_run=gpus_per_run
    )


def as_arguments(options: EngineOptions) -> list[str]:
    """What a user would type for ``options``, defaults left out."""
    from spectral_reach.studies.engines.options import EngineOptions

    given = {
        "--engine": options.engine if options.engine != EngineOptions().engine else None,
        "--workers": options.workers,
        "--address": options.address,
        "--cpus-per-run": options.cpus_per_run,
        "--gpus-per-run": options.gpus_per_run,
    }
    return [word for name, value in given.items() if value is not None for word in (name, _plain(value))]


def _plain(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
