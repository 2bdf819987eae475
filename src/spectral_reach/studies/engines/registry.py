"""The engine that options ask for, ready to be given run folders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from spectral_reach.studies.engines.options import INLINE, RAY, EngineOptions
from spectral_reach.studies.training.progress import OnProgress, ignore


class Engine(Protocol):
    """What brings run folders to their end; every engine leaves the same files in them."""

    def __call__(self, runs: Sequence[Path], *, on_progress: OnProgress = ignore) -> None:
        """Execute ``runs``; see ``local.run_all`` and ``ray.run_all`` for the errors."""


def engine(options: EngineOptions) -> Engine:
    """The engine of ``options``. Nothing is started before it is called.

    Raises:
        ModuleNotFoundError: it needs a package that is not installed; the message names the extra that brings it.
    """
    if options.engine == RAY:
        from spectral_reach.studies.engines import ray
        from spectral_reach.studies.engines.ray_connection import require_ray

        require_ray()
        return partial(
            ray.run_all,
            workers=options.workers,
            address=options.address,
            cpus_per_run=options.cpus_per_run,
            gpus_per_run=options.gpus_per_run,
        )
    if options.engine == INLINE:
        from spectral_reach.studies.engines import inline

        return inline.run_all
    from spectral_reach.studies.engines import local

    return partial(local.run_all, workers=options.workers)
