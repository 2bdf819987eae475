"""A run on Ray, from its first worker to its end: what the caller of the engine holds of it."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectral_reach.records.run_folder import RunFolder
from spectral_reach.studies.engines.ray_worker import Outcome, RayWorker
from spectral_reach.studies.engines.resources import environment_of_run
from spectral_reach.studies.training.progress import OnProgress

if TYPE_CHECKING:
    from spectral_reach.studies.engines.planned_run import PlannedRun

_SECONDS_TO_LOCK = 5.0
_SECONDS_TO_LOCK_AGAIN = 90.0
"""A lost node may hold its locks on a shared disk for as long as the disk's server waits to hear from it."""
_FROM_HERE = ("SPECTRAL_REACH_CACHE", "XDG_CACHE_HOME", "HF_HOME")
"""Where caches are: what this process was told, workers are told as well."""

log = logging.getLogger(__name__)


class RemoteRun:
    """A run, the Ray worker that executes it and those that did until they were lost."""

    def __init__(self, run: PlannedRun, cpus: float, gpus: float, retries: int) -> None:
        self.run = run
        self.latest = run.progress("starting")
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._retries = retries
        self._lost = 0
        self._begin(_SECONDS_TO_LOCK)

    def _begin(self, patience: float) -> None:
        import ray

        # What a run computes on is what it was given: Ray says which GPU, one without does not see those of its node.
        device = None if self._resources["num_gpus"] else ""
        variables = {**_told_from_here(), **environment_of_run(self.run.threads, device)}
        actor = ray.remote(max_restarts=0, max_concurrency=2, **self._resources)(RayWorker)
        self._from = self._checkpoint()
        self._is_placed = False
        self._actor: Any = actor.options(runtime_env={"env_vars": variables}).remote(Path.cwd())
        self.outcome: Any = self._actor.execute.remote(self.run.folder.absolute(), patience)
        self._look: Any = self._actor.latest.remote()

    def _checkpoint(self) -> int:
        """The step that the next worker would go on from."""
        latest = RunFolder.open(self.run.folder).checkpoints.latest()
        return 0 if latest is None else latest.step

    def forward(self, on_progress: OnProgress) -> None:
        """Hand on what is new from the worker, if it has answered, and ask again."""
        import ray

        if not _is_here(self._look):
            return
        try:
            latest = ray.get(self._look)
        except ray.exceptions.RayError:
            return  # the worker is lost: ``end`` says so
        if not self._is_placed:
            self._is_placed = True
            on_progress(self.latest)
        if latest is not None and latest != self.latest:
            self.latest = latest
            on_progress(latest)
        self._look = self._actor.latest.remote()

    def end(self) -> Outcome | None:
        """How the run ended; None while it goes on, also on another worker than before."""
        import ray

        if not _is_here(self.outcome):
            return None
        try:
            outcome: Outcome = ray.get(self.outcome)
        except ray.exceptions.RayError as error:
            self.kill()
            self._lost = 1 if self._checkpoint() > self._from else self._lost + 1
            reason = str(error).strip().splitlines() or [type(error).__name__]
            if self._lost > self._retries:
                times = f"{self._lost} times in a row without a new checkpoint" if self._lost > 1 else "once"
                said = "\n  ".join(reason)
                return Outcome(failure=f"its Ray worker was lost {times}; Ray says of the last:\n  {said}")
            log.warning("Run %s has lost its Ray worker and goes on from its checkpoint: %s", self.run.name, reason[0])
            self.latest = replace(self.latest, phase="starting")
            self._begin(_SECONDS_TO_LOCK_AGAIN)
            return None
        self.kill()
        self.latest = outcome.latest or self.latest
        return outcome

    def ask_to_stop(self) -> None:
        """For a checkpoint, if a worker is at it."""
        if self._is_placed:
            self._actor.stop.remote()
        else:
            self.kill()

    def kill(self) -> None:
        """End the worker's process, if it is there."""
        import ray

        ray.kill(self._actor)


def _is_here(answer: Any) -> bool:
    import ray

    return bool(ray.wait([answer], timeout=0)[0])


def _told_from_here() -> dict[str, str]:
    return {name: os.environ[name] for name in _FROM_HERE if name in os.environ}
